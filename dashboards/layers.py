"""The layers that the map can show, one at a time."""

from __future__ import annotations

from dataclasses import dataclass

from kernels.network import Mode


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer shows and on which fixed scale.

    ``low`` and ``high`` are the ends of the colour scale, ``ticks`` the values written under it. Breaks are
    fixed, so that a colour means the same at every moment of a replay. ``quantity`` is empty for a layer of
    the roads, ``mode`` is None for a layer of the receptors. Below ``doubtful_below`` a value is hatched:
    the model error of air alone, 30 %, leaves at most 0.5, so half of that is its line.
    """

    name: str
    key: str
    group: str
    title: str
    unit: str
    low: float
    high: float
    ticks: tuple[float, ...]
    is_log: bool = False
    mode: Mode | None = None
    quantity: str = ""
    note: str = ""
    doubtful_below: float = 0.5


_LAYERS = (
    Layer("flow_car", "1", "Traffic", "Car flow", "veh/h", 10, 3000,
          ticks=(10, 40, 160, 700, 3000), is_log=True, mode=Mode.CAR),
    Layer("flow_truck", "2", "Traffic", "Truck flow", "veh/h", 2, 500,
          ticks=(2, 8, 30, 120, 500), is_log=True, mode=Mode.TRUCK),
    Layer("flow_bicycle", "3", "Traffic", "Bicycle flow", "1/h", 5, 1000,
          ticks=(5, 20, 70, 250, 1000), is_log=True, mode=Mode.BICYCLE),
    Layer("speed", "4", "Traffic", "Car speed", "km/h", 10, 110,
          ticks=(10, 30, 50, 70, 90, 110), mode=Mode.CAR),
    Layer("accuracy", "5", "Trust", "Accuracy, car flow", "", 0, 1,
          ticks=(0, 0.25, 0.5, 0.75, 1), mode=Mode.CAR, note="P(true flow within 15 % or GEH 5)"),
    Layer("no2", "6", "Air", "NO₂", "µg/m³", 15, 60,
          ticks=(15, 25, 35, 45, 60), quantity="no2", note="SRM-scaled indication", doubtful_below=0.25),
    Layer("pm25", "7", "Air", "PM₂.₅", "µg/m³", 11, 17,
          ticks=(11, 12.5, 14, 15.5, 17), quantity="pm25", note="SRM-scaled indication", doubtful_below=0.25),
    Layer("noise", "8", "Noise", "Road noise", "dB(A)", 40, 80,
          ticks=(40, 50, 60, 70, 80), quantity="noise", note="CNOSSOS-EU, 4 m"),
)  # fmt: skip
LAYERS: dict[str, Layer] = {layer.name: layer for layer in _LAYERS}
DEFAULT = "flow_car"
