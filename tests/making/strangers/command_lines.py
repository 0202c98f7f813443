"""What is asked of strangers' models: the arguments of the command line."""

from __future__ import annotations

from tests.making.bad_input import in_model

TOKENIZE = in_model("tokenize", "hi")
STAGES = ("stages", "./model")
PLAN = in_model("plan", "hi")
RUN = in_model("run", "hi", "-s", "logits")
ATTN = in_model("attn", "hi")
LOGITS = in_model("logits", "hi")
PARAMS = ("params", "./model")
ADAPTED = ("embed", "hi", "-m", "./adapter")
ADAPTER_TREE = ("tree", "./adapter")
GGUF_TREE = ("tree", "./model.gguf")
GGUF_PARAMS = ("params", "./model.gguf")
LONG_TEXT = in_model("tokenize", "a" * 5000)
