"""`hookline positions`: how far each partition is applied, and the way past a gap."""
