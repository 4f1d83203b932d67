"""Episodes shown: strips, players, masks made anew."""
