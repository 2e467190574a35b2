"""A judge as an HTTP server: rewards for reinforcement learning, many small requests in one forward pass."""
