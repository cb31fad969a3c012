"""What ``export`` is made of: a file for torch, one for ONNX, and what both know."""
