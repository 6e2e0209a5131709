"""Every network of the zoo explained by heatproof and by a loop that knows nothing of heatproof."""
