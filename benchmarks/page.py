"""How large the page of a large campaign is, how long it takes to write, and to open in a browser.

    python benchmarks/page.py --json   # 1,000 candidates, all ranked, 50 validated: a minute

The campaign is one of ``synthetic_campaigns.py`` in a temporary AiiDA profile; its page is opened in headless Chromium, each
time with an empty profile. The last line is JSON: ``size_mb`` (10⁶), ``write_s``, and ``open_s`` from the navigation until
curves, table and lineage are drawn, the median of all. Both are by the clock, which other work on the machine lengthens;
``write_cpu_s`` and ``open_cpu_s`` are those of the processor, the latter of the process that draws the page.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"),
)


def main() -> None:
    """Make a campaign, write its page, open it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--validated", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=5, help="how often the page is opened")
    parser.add_argument("--width", type=int, default=1400, help="of the window, in pixels")
    given = parser.parse_args()
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory(prefix="page-aiida-", ignore_cleanup_errors=True) as folder:
        os.environ["AIIDA_PATH"] = folder  # before AiiDA is imported
        path = Path(folder) / "campaign.html"
        figures = written(path, given.candidates, given.validated)
        opened = [seconds_to_open(path, given.width) for _ in range(given.repeat)]
    for i, name in enumerate(("open_s", "open_cpu_s")):
        figures[name] = round(statistics.median(one[i] for one in opened), 3)
    if not given.json:
        for name, value in figures.items():
            print(f"{name:12s} {value}")
    print(json.dumps(figures))


def written(path: Path, candidates: int, validated: int) -> dict[str, Any]:
    """Write the page of a new campaign twice; return its size, and the seconds of the second time, with all modules loaded."""
    from aiida import orm
    from synthetic_campaigns import Graph, campaign, shared_nodes, target

    from aiida_dosmatgen import report, setup

    setup.ensure_profile("page")
    graph = Graph(shared_nodes(path.parent))
    uuid = campaign(graph, target(graph, sites=4), n_candidates=candidates, n_validated=validated)
    graph.store()
    node = orm.load_node(uuid)
    for _ in range(2):
        begin, cpu = time.perf_counter(), time.process_time()
        report.write(node, path)
        seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    return {
        "candidates": candidates,
        "validated_crystals": validated,
        "size_mb": round(path.stat().st_size / 1e6, 3),
        "write_s": round(seconds, 3),
        "write_cpu_s": round(used, 3),
    }


def seconds_to_open(path: Path, width: int) -> tuple[float, float]:
    """Open the page in a browser of its own; return the seconds until it has drawn, by the clock and of the processor."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for switch in (*SWITCHES, f"--user-data-dir={folder}", f"--window-size={width},900"):
            options.add_argument(switch)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            driver.execute_cdp_cmd("Performance.enable", {})
            driver.get(path.as_uri())
            while not (ready := driver.execute_script("return document.documentElement.dataset.ready")):
                time.sleep(0.01)
            metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
            return float(ready) / 1000, next(one["value"] for one in metrics if one["name"] == "ProcessTime")
        finally:
            driver.quit()


if __name__ == "__main__":
    main()
