"""`cnnbench export`: a finished run as a file for other programs, ONNX or an archive of torch.export."""
