"""A page that segments in the browser: an ONNX artifact in, one static folder out, which any server can host.

It is no target: the folder holds the very `.onnx` file that every other engine reads, and its JSON. Beside them lie the
page (`page/`, ES modules as they are), ONNX Runtime Web, and a frame with its expected mask, by which the page proves
itself on the device that opens it.
"""
