"""Random access to samples: stored chunks, views of them, and rows cut out of them."""
