"""What must hold of a deployment, I1 to I11, checked by one code: tests, demo and doctor."""
