"""`cnnbench export`: a finished run as a file for other programs, ONNX or a torch.export archive."""
