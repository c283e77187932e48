"""`edgeparse bench`: the JSON schema, the stages, and warnings about unreliable figures."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import edgeparse
from edgeparse import Parser, system
from edgeparse.backends.base import TRANSFERS
from edgeparse.bench import cold_start, jetson_power, measure, monitor
from edgeparse.bench.latency import summarize
from edgeparse.bundle import open_bundle
from edgeparse.cli.main import main
from edgeparse.parser import STAGES
from tests.conftest import encoded, noise, sample_files

SCHEMA = json.loads((Path(edgeparse.__file__).parent / "bench.schema.json").read_text())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(measure, "WARM_UP", 1)
    file = tmp_path / "small.jpg"
    file.write_bytes(encoded(noise(160, 192), "JPEG"))
    return file


def test_json_follows_the_schema(small: Path) -> None:
    done = run("--runs", 3, "--cold", 0, "--windows", 2, "--precision", "fp32", "--threads", 1, "--json", small)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    jsonschema.validate(result, SCHEMA)
    assert result["report_ms"]["samples"] == 3
    assert result["report_ms"]["p90"] is None
    assert (result["setup"]["precision"], result["setup"]["threads"]) == ("fp32", 1)
    assert result["setup"]["pictures"] == [
        {"source": str(small), "width": 192, "height": 160, "format": "JPEG", "windows": 2}
    ]
    assert result["setup"]["bundle_sha256"] == open_bundle().sha256
    assert result["cold_start"] is None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(result | {"schema": 1}, SCHEMA)


def test_a_synthetic_image_is_used_if_none_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "WARM_UP", 1)
    plot = tmp_path / "latency.svg"
    done = run("--runs", 1, "--cold", 0, "--windows", 1, "--plot", plot)
    assert done.exit_code == 0, done.stderr
    assert "1155x866 JPEG" in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines()[1:6]] == ["report", *STAGES]
    assert plot.read_text().startswith("<?xml")


def test_a_first_report_is_timed_in_a_new_process(small: Path) -> None:
    found = cold_start.measure(small, 1, {"backend": "cpu", "windows": 1})
    assert found.phases_ms["total"] == pytest.approx(
        sum(found.phases_ms[name] for name in cold_start.PHASES[:-1]), rel=0.2
    )
    assert found.peak_memory_mb is not None
    assert 20 < found.peak_memory_mb < 250
    jsonschema.validate(found.to_json(), SCHEMA["properties"]["cold_start"])


def test_a_process_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(edgeparse.EdgeparseError, match="new process failed"):
        cold_start.measure(tmp_path / "missing.jpg", 1, {})


def test_a_new_process_runs_nothing_of_the_working_directory(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("click", "json", "runpy", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('owned', 'w').close()")
    small.rename(tmp_path / "-h.jpg")
    monkeypatch.chdir(tmp_path)
    # As where the console script was started, and not Python in this folder.
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    cold_start.measure("-h.jpg", 1, {"backend": "cpu", "windows": 1})
    assert not (tmp_path / "owned").exists()


def test_profiled_stages_are_those_of_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profiled run makes the same calls as a report, with the same windows."""
    parser = Parser(windows=3)
    network, calls = parser.network, []

    def run(windows: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        calls.append((windows, outputs))
        return type(network).run(network, windows, outputs)

    monkeypatch.setattr(network, "run", run)
    stages = parser.profile_stages(sample_files()[0])
    assert tuple(stages) == STAGES
    assert min(stages.values()) > 0
    report = parser.parse(sample_files()[0])
    (profiled, profiled_outputs), (parsed, parsed_outputs) = calls
    assert np.array_equal(profiled, parsed)
    assert profiled_outputs == parsed_outputs
    assert len(profiled) == report.windows
    corners = parser.inspect(sample_files()[0]).corners
    pixels = np.asarray(Image.open(sample_files()[0]).convert("RGB"))
    assert [pixels[top : top + 128, left : left + 128].tolist() for top, left in corners] == profiled.tolist()


def test_transfers_are_profiled_if_the_backend_can(monkeypatch: pytest.MonkeyPatch) -> None:
    parser = Parser(windows=1)
    network = parser.network

    def timed(windows: np.ndarray, outputs: list[str]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        return network.run(windows, outputs), dict.fromkeys(TRANSFERS, 0.5)

    monkeypatch.setattr(network, "timed", timed, raising=False)
    stages = parser.profile_stages(noise(130, 130))
    assert tuple(stages) == (*STAGES, *TRANSFERS)
    assert {name: stages[name] for name in TRANSFERS} == dict.fromkeys(TRANSFERS, 0.5)
    timing = parser.parse(noise(130, 130)).timing_ms
    assert timing is not None
    assert timing.total >= timing.read + timing.infer


def test_percentiles_need_ten_samples_beyond_them() -> None:
    assert summarize([1.0] * 99).p90 is None
    assert summarize([1.0] * 100).p90 == 1.0
    assert summarize(range(999)).p99 is None
    full = summarize(range(1001))
    assert (full.p50, full.p90, full.p99, full.max, full.spread) == (500, 900, 990, 1000, 1.0)
    with pytest.raises(ValueError, match="must not be empty"):
        summarize([])


def test_samples_that_spread_or_drift_cause_warnings() -> None:
    assert measure.quality_warnings([10.0, 10.1] * 60) == []
    (spread,) = measure.quality_warnings([10.0, 14.0] * 60)
    assert "something disturbs" in spread
    assert measure.quality_warnings([10.0, 14.0] * 60, pictures=2) == []
    (drift,) = measure.quality_warnings([10.0] * 100 + [11.5] * 50)
    assert "15% slower" in drift
    # Of two pictures the later ones may be the larger.
    assert measure.quality_warnings([10.0] * 100 + [11.5] * 50, pictures=2) == []


@pytest.fixture
def fake_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path, text in {
        "proc/stat": "cpu  100 0 100 1000 0 0 0 0 0 0\n",
        "proc/cpuinfo": "processor: 0\ncpu MHz : 2000.0\n",
        "proc/device-tree/model": "Small Board 2\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "4\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(system, "ROOT", tmp_path)
    return tmp_path


def test_the_name_of_a_board(fake_machine: Path) -> None:
    assert system.cpu_name() == "Small Board 2"
    assert system.clock_mhz() == 2000


def test_unreadable_files_are_skipped(fake_machine: Path) -> None:
    cpus = fake_machine / "sys/devices/system/cpu"
    (cpus / "cpu0/cpufreq/scaling_cur_freq").mkdir()  # cannot be read, by root neither
    (cpus / "cpu1/thermal_throttle/core_throttle_count").mkdir(parents=True)
    (fake_machine / "proc/cpuinfo").write_text("cpu MHz : 0.000\n")
    with monitor.Monitor(own=lambda: 0.0) as watch:
        pass
    assert system.clock_mhz() is None
    assert (watch.slower, watch.throttled) == (None, 0)
    (cpus / "cpu1/cpufreq").mkdir()
    (cpus / "cpu1/cpufreq/scaling_cur_freq").write_text("1500000\n")
    assert system.clock_mhz() == 1500


def sensors(root: Path, **lines: tuple[str, str]) -> None:
    """Create a Jetson's sensor with (millivolts, milliamperes) per rail."""
    folder = root / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon4"
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, (millivolts, milliamperes)) in enumerate(lines.items(), 1):
        (folder / f"in{number}_label").write_text(f"{name}\n")
        (folder / f"in{number}_input").write_text(f"{millivolts}\n")
        (folder / f"curr{number}_input").write_text(f"{milliamperes}\n")


def test_energy_from_the_sensors_of_a_jetson(fake_machine: Path, small: Path) -> None:
    assert jetson_power.find_rails(fake_machine) == []
    sensors(fake_machine, VDD_GPU_SOC=("5000", "1000"), VDD_CPU_CV=("5000", "2000"), VIN_SYS_5V0=("broken", "0"))
    with monitor.Monitor(own=lambda: 0.0) as watch:
        time.sleep(0.05)
    assert watch.energy_of == "VDD_GPU_SOC"
    assert watch.energy_j == pytest.approx(5 * watch.seconds, rel=0.2)
    # The input rail of the whole module takes precedence.
    sensors(fake_machine, VDD_CPU_GPU_CV=("5000", "1000"), VDD_IN=("5000", "4000"))
    done = run("--runs", 3, "--cold", 0, "--windows", 1, "--json", small)
    result = json.loads(done.stdout)
    jsonschema.validate(result, SCHEMA)
    assert result["energy_of"] == "VDD_IN"
    assert "mJ per report, measured on VDD_IN" in run("--runs", 3, "--cold", 0, "--windows", 1, small).stdout


def test_a_failing_sensor_gives_no_energy(fake_machine: Path) -> None:
    sensors(fake_machine, VDD_IN=("5000", "4000"))
    (rail,) = jetson_power.find_rails(fake_machine)
    meter = jetson_power.PowerMeter([rail], seconds=0.001)
    meter.start()
    (fake_machine / "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon4/in1_input").unlink()
    time.sleep(0.05)
    assert meter.stop() is None


def test_disturbances_cause_warnings(fake_machine: Path) -> None:
    with monitor.Monitor(own=lambda: 0.0) as watch:
        (fake_machine / "proc/stat").write_text("cpu  100000 0 100 1000 0 0 0 90000 0 0\n")
        (fake_machine / "proc/cpuinfo").write_text("cpu MHz : 1500.0\n")
        (fake_machine / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count").write_text("9\n")
    warnings = " ".join(watch.warnings())
    assert watch.slower == 0.25
    assert watch.throttled == 5
    for words in ("other processes", "hypervisor", "clock fell by 25%", "for heat 5 times", "governor powersave"):
        assert words in warnings


def test_a_quiet_machine_causes_no_warnings(fake_machine: Path) -> None:
    (fake_machine / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").write_text("performance\n")
    with monitor.Monitor(own=lambda: 0.0) as watch:
        pass
    assert watch.warnings() == []


class Nvml:
    """NVIDIA's management library with a GPU that uses 1 J between two queries and supports little else."""

    NVMLError = RuntimeError

    def __init__(self) -> None:
        self.millijoules = 0
        self.open = 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, _number: int) -> str:
        return "handle"

    def nvmlDeviceGetName(self, _device: str) -> str:
        return "A GPU"

    def nvmlDeviceGetClockInfo(self, _device: str, _kind: int) -> int:
        raise RuntimeError("not supported")

    def nvmlDeviceGetTotalEnergyConsumption(self, _device: str) -> int:
        self.millijoules += 1000
        return self.millijoules

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _device: str) -> int:
        return 0x40


def test_energy_and_throttling_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    fake = Nvml()
    assert all(hasattr(pynvml, name) for name in dir(fake) if name.startswith("nvml"))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    with monitor.Monitor() as watch:
        pass
    assert (watch.energy_j, watch.energy_of) == (1, "the GPU")
    assert "the GPU was throttled" in " ".join(watch.warnings())
    assert system.describe()["gpu"] == {"name": "A GPU", "clock_mhz": None}
    assert fake.open == 0


def test_unreliable_figures_fail_a_strict_run(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor.Monitor, "warnings", lambda _self: ["hot"])
    done = run("--runs", 1, "--cold", 0, "--windows", 1, "--strict", small)
    assert done.exit_code == 1
    assert "not reliable: hot" in done.stderr


def test_usage_errors_precede_the_measurement(small: Path, tmp_path: Path) -> None:
    assert run("--plot", tmp_path / "latency.doc", small).exit_code == 2
    assert run("--plot", tmp_path / "no" / "latency.png", small).exit_code == 2
    (tmp_path / "folder.png").mkdir()
    assert run("--plot", tmp_path / "folder.png", small).exit_code == 2
    missing = run("--runs", 1, "--cold", 0, tmp_path / "missing.jpg")
    assert missing.exit_code == 1
    assert "not_found" in missing.stderr or "no file" in missing.stderr
    assert run("--bundle", tmp_path, small).exit_code == 3


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder that nobody can write to")
def test_an_unwritable_plot_is_reported_before_the_measurement(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_arguments: object) -> None:
        raise AssertionError("measured")

    monkeypatch.setattr(measure, "measure", measured)
    done = run("--plot", "/proc/x.png", small)
    assert done.exit_code == 2
    assert "/proc/x.png cannot be written" in " ".join(done.stderr.split())


def test_a_plot_shows_accuracy_against_latency(small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measure, "PRECISION_RUNS", 2)
    traded = measure.accuracy_latency([str(small)], {"windows": 1, "backend": "cpu"}, "onnxruntime-cpu")
    figures = open_bundle().metrics["variants"]
    assert [trade.precision for trade in traded] == ["fp32", "fp16", "int8"]
    for trade in traded:
        assert trade.ms > 0
        assert trade.accuracy["public generators"] == figures[trade.precision]["detection_public_auc"]
    assert measure.accuracy_latency([str(small)], {"windows": 1, "backend": "cpu"}, "onnxruntime-cuda") == []
    done = run("--runs", 1, "--cold", 0, "--windows", 1, "--backend", "cpu", "--plot", tmp_path / "p.svg", small)
    assert done.exit_code == 0, done.stderr
    # Letters are drawn as shapes, with what they say beside them.
    assert "AUC, camera or generated" in (tmp_path / "p.svg").read_text()


def test_the_synthetic_image_is_deterministic_and_has_the_requested_size() -> None:
    data = measure.synthetic_picture(0.1)
    assert data == measure.synthetic_picture(0.1)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width * picture.height == pytest.approx(1e5, rel=0.02)
        assert picture.format == "JPEG"


def test_instruction_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "ROOT", tmp_path)
    assert system.instructions() is None
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni sse\n")
    assert system.instructions() == ["avx2", "avx512f", "avx512_vnni"]
    (tmp_path / "proc/cpuinfo").write_text("Features\t: fp asimd asimddp\n")
    assert system.instructions() == ["asimd", "asimddp"]
