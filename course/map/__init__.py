"""Interactive pages: the map of garments, and a VAE that trains in the browser."""
