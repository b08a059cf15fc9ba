"""What consumers ask of Stripe by themselves, where they have a key: ties, lost events, proof."""
