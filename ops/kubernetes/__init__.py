"""The manifests, and what of them is made from other files, by `python -m ops.kubernetes`."""
