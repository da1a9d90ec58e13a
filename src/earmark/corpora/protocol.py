"""The protocol: one table of trials for all corpora, a row an utterance."""

CORE = ("utterance_id", "corpus", "path", "key", "source", "attack", "speaker", "group", "split", "in_domain", "language", "made")
KEYS = ("bonafide", "spoof")
SPLITS = ("train", "dev", "eval")
