"""Convert networks to torch (``torch_modules``) and ONNX (``onnx_graph``)."""
