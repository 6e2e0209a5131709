"""Ways in and out for a model: Keras files, exported programs, networks of torchvision and timm, ONNX.

Each module imports its heavy dependency only when one of its functions is called.
"""
