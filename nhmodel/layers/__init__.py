"""Parts of the network: rotary time, attention over ragged spikes, unit identity, and the head."""
