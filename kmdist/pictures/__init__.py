"""What people look at: contact sheets, exports, cut-outs."""
