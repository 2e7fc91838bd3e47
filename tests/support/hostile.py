"""Texts that somebody may have put into a run."""

HOSTILE = {
    "markup": "<script>document.title = 'taken'</script>",
    "attribute": '"><img src=x onerror="document.title=\'taken\'">',
    "end of data": "</script><script>document.title='taken'</script><!--",
    "line separators": "one\u2028two\u2029three",
    "emoji": "🦊 ‮rtl",
    "rich": "[bold red]not markup[/] [/nothing]",
    "latex": r"\input{/etc/passwd} $x_1$ & % # ~ ^ {",
    "markdown": "| a | `b` [c](javascript:alert(1)) *d*",
    "template": "{{policy}} ${alert(1)} {{data}}",
    "terminal": "\x1b[31mred\x1b]0;title\x07",
    "long": "x" * 10_000,
}
