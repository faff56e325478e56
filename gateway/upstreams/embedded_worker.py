"""The process of an embedded model: `python -m gateway.upstreams.embedded_worker`, started by `embedded.py`.

It reads one JSON line (weights, template, threads, context, key) from standard input, serves llama.cpp's OpenAI API on
a loopback port of the system's choosing, and prints the address as one JSON line. It ends when standard input does:
with the gateway, and not before it, so that a stop meant for both lets the answers in flight end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Final

# For callers who give none: llama.cpp's own (0.8, 0.95, no penalty) let a model this small wander off in a few words.
# Of 30 answers of SmolLM2 about the capital of France, 18 named Paris with those and its own template, 28 with ours.
_TEMPERATURE: Final = 0.05
_TOP_P: Final = 0.9
_REPEAT_PENALTY: Final = 1.1


def main() -> None:
    """Serve until the gateway is gone."""
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    order = json.loads(sys.stdin.readline())
    # llama.cpp logs prompts' sizes and paths to its output; nobody reads them, and the address needs a clean channel.
    answers = os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        server = _serve(order)
    except Exception as error:  # whatever llama.cpp has to say goes to the gateway as a line
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        return
    print(json.dumps({"address": server.listening_address}), file=answers, flush=True)
    while sys.stdin.read(4096):
        pass
    os._exit(0)  # llama.cpp waits for requests in flight otherwise, and their client is gone


def _serve(order: dict[str, object]):  # type: ignore[no-untyped-def]  # an optional extra's type
    import xllamacpp  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional extra, and only this process pays for it

    threads, slots = int(str(order["threads"])), int(str(order["slots"]))
    params = xllamacpp.CommonParams()
    params.model.path = str(order["weights"])
    params.model_alias = {str(order["name"])}
    params.chat_template = str(order["template"])
    params.sampling.temp = _TEMPERATURE
    params.sampling.top_p = _TOP_P
    params.sampling.penalty_repeat = _REPEAT_PENALTY
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [str(order["key"])]
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.n_parallel = slots
    params.n_ctx = int(str(order["context"])) * slots
    params.n_threads_http = slots + 2
    params.ui = False
    params.endpoint_slots = False
    params.endpoint_props = False
    params.offline = True
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
