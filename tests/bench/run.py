"""`make bench`: the gateway with everything switched on, against nginx and LiteLLM's proxy, paired in one run.

Gateways run on core 0, the fake upstream and the load on core 1; rounds go A B C, C B A, ... Figures are medians over
the rounds, with the least and the most. CPU is what the process tree used (schedstat), a request: on a shared machine
wall times lie, and the ratio to nginx in the same run is the figure to trust. nginx and litellm are left out, by name,
when they are not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

UPSTREAM_PORT = 9100
SCENARIOS = {
    "c64": (["-c", "64"], 1500),
    "c16": (["-c", "16"], 800),
    "c16_16k": (["-c", "16", "--prompt", "16000"], 300),
    "c1": (["-c", "1"], 300),
    "sse_burst": (["-c", "16", "--stream"], 300),
    "sse_1ms": (["-c", "16", "--stream", "--delay", "1000"], 200),
    "sse_first": (["-c", "1", "--stream", "--delay", "3000"], 40),
}
CHUNKS = 20
_NGINX = """
worker_processes 1; daemon off; pid {tmp}/nginx.pid; error_log {tmp}/nginx.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 10000000; client_body_buffer_size 256k;
 client_body_temp_path {tmp}/b; proxy_temp_path {tmp}/p; fastcgi_temp_path {tmp}/f; uwsgi_temp_path {tmp}/u;
 scgi_temp_path {tmp}/s;
 upstream up {{ server 127.0.0.1:{up}; keepalive 256; keepalive_requests 10000000; }}
 server {{ listen 127.0.0.1:{port} backlog=1024;
  location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_buffering off; }} }} }}
"""
_CAUCE = """
port: {port}
discover: false
ledger: sqlite:///{tmp}/ledger.db
log_level: warning
models:
  fake: {{provider: openai-compatible, base_url: "http://127.0.0.1:{up}/v1", model: fake, zone: premises, kind: slm}}
"""
_LITELLM = """
model_list:
  - model_name: fake
    litellm_params: {{model: openai/fake, api_base: "http://127.0.0.1:{up}/v1", api_key: sk-up}}
general_settings: {{dangerously_permit_weak_or_unset_master_key: true}}
litellm_settings: {{telemetry: false}}
"""


@dataclass
class Gateway:
    """One contestant."""

    name: str
    port: int
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    scale: float = 1.0
    process: subprocess.Popen[bytes] | None = None
    runs: dict[str, list[dict[str, object]]] = field(default_factory=dict)


def contestants(tmp: Path, only: set[str]) -> list[Gateway]:
    found: list[Gateway] = []
    (tmp / "nginx.conf").write_text(_NGINX.format(tmp=tmp, up=UPSTREAM_PORT, port=9101))
    (tmp / "cauce.yaml").write_text(_CAUCE.format(tmp=tmp, up=UPSTREAM_PORT, port=9102))
    (tmp / "litellm.yaml").write_text(_LITELLM.format(up=UPSTREAM_PORT))
    if nginx := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin"):
        found.append(Gateway("nginx", 9101, [nginx, "-p", str(tmp), "-c", "nginx.conf"]))
    else:
        print("nginx is not installed: no ratios to it (Debian: apt-get install nginx-light)")
    serve = [sys.executable, "-m", "gateway.cli.main", "serve", "--config", str(tmp / "cauce.yaml")]
    found.append(Gateway("cauce", 9102, serve))
    litellm = os.environ.get("LITELLM") or shutil.which("litellm")
    if litellm:
        proxy = [litellm, "--config", str(tmp / "litellm.yaml"), "--host", "127.0.0.1", "--port", "9103"]
        env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        found.append(Gateway("litellm", 9103, [*proxy, "--num_workers", "1"], env, 0.1))
    else:
        print(
            "LiteLLM's proxy is not on the path: no ratio to it "
            "(pip install 'litellm[proxy]==1.105.1', or LITELLM=its command)"
        )
    return [gateway for gateway in found if not only or gateway.name in only]


def tree(pid: int) -> list[int]:
    children = [int(c) for f in Path(f"/proc/{pid}/task").glob("*/children") for c in f.read_text().split()]
    return [pid, *(grandchild for child in children for grandchild in tree(child))]


def cpu_us(pid: int) -> float:
    total = 0
    for process in tree(pid):
        for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
            total += int(file.read_text().split()[0])
    return total / 1e3


def rss_mb(pid: int) -> float:
    lines = (line for p in tree(pid) for line in Path(f"/proc/{p}/status").read_text().splitlines())
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def start(gateway: Gateway, tmp: Path) -> None:
    log = (tmp / f"{gateway.name}.log").open("wb")
    env = {**os.environ, **gateway.env}
    gateway.process = subprocess.Popen(
        ["taskset", "-c", "0", *gateway.command], env=env, stdout=log, stderr=log, start_new_session=True
    )
    began = time.monotonic()
    while time.monotonic() - began < 120:
        if gateway.process.poll() is not None:
            raise SystemExit(f"{gateway.name} did not start:\n{(tmp / f'{gateway.name}.log').read_text()[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", gateway.port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    print(
        f"{gateway.name}: listening after {time.monotonic() - began:.1f} s, {rss_mb(gateway.process.pid):.0f} MB",
        flush=True,
    )


def load(gateway: Gateway, arguments: list[str], requests: int) -> dict[str, object]:
    command = ["taskset", "-c", "1", sys.executable, "-m", "tests.bench.load", "--port", str(gateway.port)]
    before = cpu_us(gateway.process.pid) if gateway.process else 0.0
    start = secrets.randbelow(900_000_000)  # no request is asked twice: the answer cache would measure itself
    done = subprocess.run(
        [*command, "-n", str(requests), "--start", str(start), *arguments], capture_output=True, text=True, check=False
    )
    if not done.stdout:
        raise SystemExit(f"the load generator failed: {done.stderr[-1000:]}")
    result: dict[str, object] = json.loads(done.stdout)
    if gateway.process:
        result["cpu_us"] = (cpu_us(gateway.process.pid) - before) / requests
    return result


def figure(gateway: Gateway, scenario: str, *path: str) -> list[float]:
    values: list[float] = []
    for run in gateway.runs.get(scenario, []):
        value: object = run
        for key in path:
            value = value[key] if isinstance(value, dict) else float("nan")
        values.append(float(str(value)))
    return values


def spread(values: list[float], digits: int = 0) -> str:
    if not values:
        return "-"
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def table(title: str, gateways: list[Gateway], scenarios: list[str], *path: str) -> None:
    print(f"\n{title}\n{'':10s}" + "".join(f"{s:>22s}" for s in scenarios))
    for gateway in gateways:
        print(f"{gateway.name:10s}" + "".join(f"{spread(figure(gateway, s, *path)):>22s}" for s in scenarios))


def verdicts(gateways: list[Gateway]) -> None:
    """Each figure that the project promises, with what was reached."""
    by_name = {gateway.name: gateway for gateway in gateways}
    cauce = by_name.get("cauce")
    if cauce is None:
        return
    print("\nwhat is promised")

    def ratio(top: Gateway, bottom: Gateway) -> list[float]:
        return [a / b for a, b in zip(figure(top, "c64", "cpu_us"), figure(bottom, "c64", "cpu_us"), strict=False)]

    if "nginx" in by_name and figure(cauce, "c64", "cpu_us"):
        times = spread(ratio(cauce, by_name["nginx"]), 1)
        print(f"  CPU a request, times nginx's (c64)        {times}   at most 20, good 12")
    if "litellm" in by_name and figure(cauce, "c64", "cpu_us"):
        times = spread(ratio(by_name["litellm"], cauce), 1)
        print(f"  CPU a request, LiteLLM's over ours (c64)  {times}   at least 35, good 60")
    if figure(cauce, "sse_burst", "cpu_us") and figure(cauce, "c16", "cpu_us"):
        whole = statistics.median(figure(cauce, "c16", "cpu_us"))
        burst = [(value - whole) / CHUNKS for value in figure(cauce, "sse_burst", "cpu_us")]
        drip = [(value - whole) / CHUNKS for value in figure(cauce, "sse_1ms", "cpu_us")]
        print(f"  CPU a relayed chunk, all at once, us      {spread(burst, 1)}   at most 60, good 40")
        print(f"  CPU a relayed chunk, one a ms, us         {spread(drip, 1)}   at most 60, good 40")
    first = figure(cauce, "sse_first", "first_us", "p50")
    direct = figure(by_name["direct"], "sse_first", "first_us", "p50") if "direct" in by_name else []
    if first and direct:
        added = [(a - b) / 1e3 for a, b in zip(first, direct, strict=False)]
        print(f"  added to the first token, ms              {spread(added, 2)}   at most 3")
    errors = sum(int(str(run["errors"])) for runs in cauce.runs.values() for run in runs)
    sent = sum(int(str(run["sent"])) for runs in cauce.runs.values() for run in runs)
    print(f"  errors                                    {errors} in {sent}")
    if cauce.process:
        print(f"  RSS, MB                                   {rss_mb(cauce.process.pid):.0f}   below 200")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--scenarios", default="", help="names, separated by commas")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument(
        "--soak", type=int, default=0, help="requests of a last run that only looks for errors and growth"
    )
    options = parser.parse_args()
    scenarios = [s for s in SCENARIOS if not options.scenarios or s in options.scenarios.split(",")]
    with tempfile.TemporaryDirectory(prefix="cauce-bench-") as folder:
        tmp = Path(folder)
        gateways = contestants(tmp, set(filter(None, options.only.split(","))))
        upstream = subprocess.Popen(
            ["taskset", "-c", "1", sys.executable, "-m", "tests.bench.upstream", str(UPSTREAM_PORT)],
            start_new_session=True,
        )
        try:
            time.sleep(0.5)
            measure(gateways, tmp, scenarios, options)
        finally:
            for process in [upstream, *(g.process for g in gateways if g.process)]:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(timeout=20)


def measure(gateways: list[Gateway], tmp: Path, scenarios: list[str], options: argparse.Namespace) -> None:
    for gateway in gateways:
        start(gateway, tmp)
        load(gateway, ["-c", "8"], 100)
        load(gateway, ["-c", "8", "--stream"], 40)
    entrants = [Gateway("direct", UPSTREAM_PORT, []), *gateways]
    for number in range(options.rounds):
        for scenario in scenarios:
            arguments, requests = SCENARIOS[scenario]
            for gateway in entrants if number % 2 == 0 else entrants[::-1]:
                count = max(20, int(requests * options.scale * gateway.scale))
                gateway.runs.setdefault(scenario, []).append(load(gateway, arguments, count))
        print(f"round {number + 1} of {options.rounds} done", flush=True)
    for gateway in gateways:
        if options.soak and gateway.name == "cauce":
            before = rss_mb(gateway.process.pid) if gateway.process else 0
            gateway.runs["soak"] = [load(gateway, ["-c", "64"], options.soak)]
            after = rss_mb(gateway.process.pid) if gateway.process else 0
            errors = gateway.runs["soak"][0]["errors"]
            print(f"soak: {errors} errors in {options.soak}, RSS {before:.0f} to {after:.0f} MB")
    table("CPU, us a request: median (least-most)", gateways, scenarios, "cpu_us")
    table("latency p50, us", entrants, scenarios, "latency_us", "p50")
    table("first token p50, us", entrants, [s for s in scenarios if s.startswith("sse")], "first_us", "p50")
    verdicts(entrants)
    for gateway in entrants:
        for scenario, runs in gateway.runs.items():
            for run in runs:
                if run["errors"]:
                    print(f"{gateway.name} {scenario}: {run['errors']} errors, e.g. {run['why']}")


if __name__ == "__main__":
    main()
