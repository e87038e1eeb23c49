"""The neutral format, Keras's files, first weights, and parameters that only one library has."""
