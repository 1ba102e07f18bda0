"""Headless Chromium, what it asked the network for, and what it complained of."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_TILE_CAME_LATE = "Ignoring tile %s loaded before reset"
"""What OpenSeadragon warns of where a layer is left while its last tiles are on their way."""
_PATIENCE_S = 600
"""How long a page may take on a machine that does other things: not how fast it is."""


class Browser:
    """A window; `downloads` is where it saves files."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads

    def open(self, address: str | Path, width: int = 1280, scheme: str = "light") -> None:
        """Open a file or URL in a window of this width, in light or dark."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.requests()
        url = address.absolute().as_uri() if isinstance(address, Path) else address
        self.driver.get(url)

    def run(self, script: str, *values: Any) -> Any:
        """Run JavaScript in the page; what it returns."""
        return self.driver.execute_script(script, *values)

    def ready(self) -> None:
        """Wait until the page shows its first image."""
        self.driver.set_script_timeout(_PATIENCE_S)
        self.driver.execute_async_script("viewer.ready.then(arguments[0])")

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Wait until something is so, and return it."""
        return WebDriverWait(self.driver, _PATIENCE_S).until(lambda _: condition())

    def click(self, selector: str) -> None:
        """Click an element as a script does, wherever it is scrolled to."""
        self.run("document.querySelector(arguments[0]).click()", selector)

    def text(self, selector: str) -> str:
        """Text of an element."""
        return str(self.run("return document.querySelector(arguments[0]).textContent", selector))

    def saved(self, pattern: str) -> Path:
        """Wait for a file to be saved whole."""
        return Path(self.wait(lambda: next(iter(self.downloads.glob(pattern)), None)))

    def complaints(self) -> list[str]:
        """What the console has said since it was last asked, but for tiles of layers just left."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in said if _TILE_CAME_LATE not in message]

    def requests(self) -> list[str]:
        """URLs that were asked for since they were last asked for, but what pages hold."""
        events = [
            json.loads(one["message"])["message"] for one in self.driver.get_log("performance")
        ]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [one["request"]["url"] for one in sent]
        return [url for url in urls if not url.startswith(("data:", "blob:"))]

    def violations(self, axe: Path) -> list[str]:
        """Serious violations that axe-core finds in the page."""
        self.driver.set_script_timeout(_PATIENCE_S)
        self.run(axe.read_text("utf-8"))
        found = self.driver.execute_async_script("axe.run().then(arguments[0])")
        return [
            f"{one['id']}: {node['html'][:200]}"
            for one in found["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


@contextmanager
def browser(downloads: Path) -> Iterator[Browser]:
    """A browser with a profile of its own; skipped where there is none."""
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in found:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(found[0])
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(found[1])))
    where = {"behavior": "allow", "downloadPath": str(downloads)}
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    try:
        yield Browser(driver, downloads)
    finally:
        driver.quit()


def axe_core(folder: Path) -> Path:
    """axe-core from npm; skipped where it cannot be had."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "axe-core@4"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"axe-core cannot be installed: {done.stderr.strip()[-300:]}")
    return folder / "node_modules/axe-core/axe.min.js"
