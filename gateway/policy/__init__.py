"""From signals to a route: rules, proof, cases."""
