"""The bed: small networks on planted tasks, on which verdicts are compared with two truths."""
