"""One typed function a stage; no stage imports another."""
