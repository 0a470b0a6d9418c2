"""Networks: generators, discriminators, flow networks, feature networks."""
