"""One file a verb, each with `main(arguments) -> exit code`."""
