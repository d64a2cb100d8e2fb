"""What more than one component must agree on: pure, standard library only."""
