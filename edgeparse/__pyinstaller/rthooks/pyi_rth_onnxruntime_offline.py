"""Switch off ONNX Runtime's telemetry before a packaged app imports it, even if the app does so before edgeparse."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
