"""Headless Chromium with the network off, for pages; and what it has drawn, as numbers."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from tests.making.pages import Array

WIDTH, HEIGHT = 1000, 1100

MISSING = (
    "pages are tried in headless Chromium, and {} is not installed: 'apt-get install --no-install-recommends chromium "
    "chromium-driver', or '.ci/run browser', which does that"
)

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--force-color-profile=srgb",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    f"--window-size={WIDTH},{HEIGHT}",
)

MOST = 60
"""Seconds that whatever is waited for may take: no expectation, but an end."""


def _found(*names: str) -> str:
    """The path of a program by one of its names; the test fails with a sentence where there is none."""
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.fail(MISSING.format(names[0]), pytrace=False)
    return path


class Browser:
    """A browser at a page."""

    def __init__(self, *, scripts: bool = True) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = _found("chromium", "chromium-browser", "google-chrome")
        service = webdriver.ChromeService(_found("chromedriver", "chromium-driver"))
        for argument in ARGUMENTS:
            options.add_argument(argument)
        if not scripts:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=service)
        self.devtools("Network.enable")
        self.devtools(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=0, uploadThroughput=0
        )
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False
        )

    def devtools(self, command: str, **values: Any) -> Any:
        """What a command of the browser's own tools gives."""
        return self.driver.execute_cdp_cmd(command, values)

    def prefer(self, **features: str) -> None:
        """What the person at the browser prefers, such as prefers_color_scheme='dark'."""
        shown = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.devtools("Emulation.setEmulatedMedia", features=shown)

    def open(self, file: Path) -> None:
        """Open a file, with logs that begin there."""
        self.driver.get("about:blank")
        for log in ("browser", "performance"):
            self.driver.get_log(log)
        self.driver.get(file.as_uri())

    def requests(self) -> list[str]:
        """The addresses that were asked for since the last look, those of sockets among them."""
        events = [json.loads(each["message"])["message"] for each in self.driver.get_log("performance")]
        sent = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
        return sent + [each["method"] for each in events if each["method"].startswith("Network.webSocket")]

    def console(self) -> list[str]:
        """What the console was told since the last look."""
        return [each["message"] for each in self.driver.get_log("browser")]

    def run(self, script: str, *values: Any) -> Any:
        """What a script gives in the page."""
        return self.driver.execute_script(script, *values)

    def one(self, selector: str) -> WebElement:
        """The first element of a selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements of a selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, script: str) -> Any:
        """Wait until a script gives something that is true, and give it."""
        return WebDriverWait(self.driver, MOST, 0.02).until(lambda _: self.run(script))

    def wait_for_head(self) -> None:
        """Wait until a head's weights are drawn."""
        self.wait("return document.querySelector('#view-matrix .cells canvas')")

    @contextmanager
    def redrawing(self, view: str = "matrix") -> Iterator[None]:
        """Wait after what is done within until the view of the head is another one."""
        self.run(
            "for (const each of document.getElementById(arguments[0]).children) each.dataset.old = 1", f"view-{view}"
        )
        yield
        self.wait(f"return document.querySelector('#view-{view} > :not([data-old])')")

    def steps(self, rows: int, columns: int) -> Array:
        """The step, 0 to 255, of each cell of the matrix by its own pixels and the colours of the legend; -1 for none.

        Every pixel of a cell has the cell's colour.
        """
        return self._steps("#view-matrix .cells canvas", rows, columns)

    def _steps(self, selector: str, rows: int, columns: int) -> Array:
        colours = {tuple(each): step for step, each in enumerate(self.pixels("#view-matrix canvas.scale")[0].tolist())}
        assert len(colours) == 256
        found = self.pixels(selector)
        (high, wide), size = found.shape[:2], found.shape[0] // rows
        assert (high, wide) == (rows * size, columns * size)
        cells = found.reshape(rows, size, columns, size, 4)
        assert (cells == cells[:, :1, :, :1]).all()
        plain = cells[:, 0, :, 0]
        return np.array([[colours[tuple(each)] if each[3] else -1 for each in row] for row in plain.tolist()])

    def thumb(self, place: int, rows: int, columns: int) -> Array:
        """The steps of a thumbnail, of one pixel for each weight."""
        self.wait(f"return document.querySelectorAll('.thumb canvas')[{place}].width == {columns}")
        self.run("document.querySelectorAll('.thumb canvas').forEach((each, place) => each.id = `thumb-${place}`)")
        return self._steps(f"#thumb-{place}", rows, columns)

    def pixels(self, selector: str) -> Array:
        """The pixels of a canvas: (row, column, 4)."""
        width, height, values = self.run(
            "const canvas = document.querySelector(arguments[0]);"
            "const found = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;"
            "let text = ''; for (const each of found) text += String.fromCharCode(each);"
            "return [canvas.width, canvas.height, btoa(text)]",
            selector,
        )
        return np.frombuffer(b64decode(values), np.uint8).reshape(height, width, 4)

    def named(self) -> list[tuple[str, str, bool]]:
        """Role, name and whether it takes the keyboard of all that a screen reader is told."""
        self.devtools("Accessibility.enable")
        found = []
        for node in self.devtools("Accessibility.getFullAXTree")["nodes"]:
            if not node.get("ignored"):
                focusable = any(each["name"] == "focusable" and each["value"]["value"] for each in node["properties"])
                found.append((node["role"]["value"], node.get("name", {}).get("value", ""), focusable))
        return found


@contextmanager
def started(*, scripts: bool = True) -> Iterator[Browser]:
    """A browser that is ended when it is no longer needed."""
    browser = Browser(scripts=scripts)
    try:
        yield browser
    finally:
        browser.driver.quit()
