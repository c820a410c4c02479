"""Export to OpenVINO and ONNX, numerical precision, quantization, and inference with exported models."""
