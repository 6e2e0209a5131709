"""File formats of models, in and out: Keras, HDF5, exported programs (.pt2), ONNX.

Each module imports its heavy dependency only when one of its functions is called.
"""
