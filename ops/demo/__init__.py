"""`hookline demo`: simulated traffic through everything, held against its known outcome."""
