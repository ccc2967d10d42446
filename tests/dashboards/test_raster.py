from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cities.pack import City
from dashboards import lines
from dashboards.colour import BACKGROUND, PRIORITY, rgb_of
from dashboards.layers import LAYERS
from dashboards.raster import FieldScene, MapRaster, RoadScene, Viewport
from tests.dashboards.town import X0, Y0, make_town

VIEW = Viewport(X0, Y0, X0 + 1500.0, Y0 + 1500.0, 300, 300)  # 5 m a pixel
FLOW = LAYERS["flow_car"]


@pytest.fixture
def city(tmp_path: Path) -> City:
    return make_town(tmp_path / "town")


def channels(image: NDArray[np.uint32]) -> NDArray[np.int64]:
    """(height, width, 3), red first."""
    return np.stack([(image >> shift) & 0xFF for shift in (0, 8, 16)], axis=2).astype(np.int64)


def roads(value: list[float], accuracy: float = 0.8) -> RoadScene:
    values = np.stack([value, value], axis=1).astype(np.float32)
    return RoadScene(values, np.full_like(values, accuracy))


def drawn(city: City, *flows: float, accuracy: float = 0.8, view: Viewport = VIEW) -> NDArray[np.int64]:
    return channels(MapRaster(city).draw(view, FLOW, roads(list(flows), accuracy)))


def one_line(width: float, *, size: int = 40) -> NDArray[np.float32]:
    """Coverage of a horizontal line from x = 10 to 30 at y = 20."""
    image = np.zeros((size, size, 3), dtype=np.float32)
    lines.draw_polylines(
        image,
        np.array([[10.0, 20.0], [30.0, 20.0]], dtype=np.float32),
        np.array([0, 2]),
        np.array([0]),
        np.zeros(1, np.float32),
        np.full(1, width / 2, np.float32),
        np.ones((1, 3), np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.uint8),
    )
    return image[:, :, 0]


@pytest.mark.parametrize("width", [1.0, 2.0, 3.5, 6.0])
def test_a_line_covers_its_width(width: float) -> None:
    assert one_line(width)[:, 20].sum() == pytest.approx(width, abs=1e-4)


def test_a_line_is_where_it_should_be_and_nowhere_else() -> None:
    covered = one_line(2.0) > 0
    rows, columns = np.nonzero(covered)
    assert (rows.min(), rows.max()) == (19, 20)
    assert (columns.min(), columns.max()) == (9, 30)  # round caps of one pixel


def test_a_diagonal_covers_the_same_area_as_a_straight_line_of_its_length() -> None:
    image = np.zeros((60, 60, 3), dtype=np.float32)
    ends = np.array([[10.0, 10.0], [40.0, 50.0]], dtype=np.float32)  # 50 long
    lines.draw_polylines(
        image, ends, np.array([0, 2]), np.array([0]), np.zeros(1, np.float32), np.full(1, 2.0, np.float32),
        np.ones((1, 3), np.float32), np.ones(1, np.float32), np.zeros(1, np.uint8),
    )  # fmt: skip
    assert image[:, :, 0].sum() == pytest.approx(50 * 4 + np.pi * 2.0**2, rel=0.01)


def test_a_shifted_line_lies_to_the_right_of_its_way() -> None:
    image = np.zeros((40, 40, 3), dtype=np.float32)
    ends = np.array([[10.0, 20.0], [30.0, 20.0]], dtype=np.float32)  # eastward: its right is south
    lines.draw_polylines(
        image, ends, np.array([0, 2]), np.array([0]), np.full(1, 5.0, np.float32), np.full(1, 0.5, np.float32),
        np.ones((1, 3), np.float32), np.ones(1, np.float32), np.zeros(1, np.uint8),
    )  # fmt: skip
    rows = np.nonzero(image[:, 20, 0])[0]
    assert (rows.min(), rows.max()) == (14, 15)


def test_a_line_that_leaves_the_image_is_cut_not_wrapped() -> None:
    image = np.zeros((20, 20, 3), dtype=np.float32)
    ends = np.array([[-1e4, 10.0], [1e4, 10.0]], dtype=np.float32)
    lines.draw_polylines(
        image, ends, np.array([0, 2]), np.array([0]), np.zeros(1, np.float32), np.full(1, 0.5, np.float32),
        np.ones((1, 3), np.float32), np.ones(1, np.float32), np.zeros(1, np.uint8),
    )  # fmt: skip
    np.testing.assert_allclose(image[:, :, 0].sum(axis=0), 1.0, atol=1e-5)


def test_blur_keeps_the_light_and_spreads_it_evenly() -> None:
    image = np.zeros((41, 51, 3), dtype=np.float32)
    image[20, 25] = 100.0
    blurred = lines.blur(image, 2)
    assert blurred[:, :, 0].sum() == pytest.approx(100.0, rel=1e-4)
    np.testing.assert_allclose(blurred[::-1, ::-1], blurred, atol=1e-4)


def test_streets_are_drawn_at_their_place(city: City) -> None:
    image = drawn(city, 1000.0, 1000.0, 1000.0)
    light = image.sum(axis=2)
    assert light[150, 150] > 400  # the west-east street at 750 m north
    assert light[60, 150] > 400  # the south-north street
    assert light[220, 90] > 400  # halfway along the diagonal
    np.testing.assert_array_equal(image[10, 10], rgb_of(BACKGROUND))


def test_more_flow_is_brighter_and_wider(city: City) -> None:
    profiles = [drawn(city, flow, 5.0, 5.0)[100:200, 100].sum(axis=1) for flow in (20.0, 200.0, 2000.0)]
    peaks = [p.max() for p in profiles]
    widths = [(p > 0.5 * p.max()).sum() for p in profiles]
    assert peaks[0] < peaks[1] < peaks[2]
    assert widths[0] <= widths[1] < widths[2]


def test_a_quiet_street_stays_visible_and_an_unknown_one_is_grey(city: City) -> None:
    quiet = drawn(city, 10.0, np.nan, 10.0)
    background = int(rgb_of(BACKGROUND).sum())
    assert quiet[150, 100].sum() > background + 60
    unknown = quiet[60, 149:152].reshape(-1, 3)
    brightest = unknown[unknown.sum(axis=1).argmax()]
    assert brightest.sum() > background + 40
    assert np.ptp(brightest) < 16  # no hue


def test_low_accuracy_loses_colour_and_is_broken_by_hatching(city: City) -> None:
    sure = drawn(city, 2000.0, 5.0, 5.0)[150, 60:240]
    doubtful = drawn(city, 2000.0, 5.0, 5.0, accuracy=0.3)[150, 60:240]
    assert np.ptp(sure.sum(axis=1)) < 60
    assert np.ptp(doubtful.sum(axis=1)) > 150
    assert np.ptp(doubtful, axis=1).max() < np.ptp(sure, axis=1).max()


def test_directions_are_side_by_side_when_near(city: City) -> None:
    near = Viewport(X0 + 700.0, Y0 + 700.0, X0 + 800.0, Y0 + 800.0, 200, 200)
    scene = roads([0.0, 0.0, 0.0])
    scene.value[0] = (2000.0, 20.0)  # east strong, west weak
    light = channels(MapRaster(city).draw(near, FLOW, scene))[:, 30].sum(axis=1)
    middle = 100  # y of the street; east drives on the right, so south of it
    assert light[middle - 12 : middle].max() > light[middle + 1 : middle + 12].max() + 100


def test_a_field_lies_where_its_receptors_are(city: City) -> None:
    values = np.full(city.grid.shape, 15.0, dtype=np.float32)
    values[20:40, 100:130] = 60.0  # 200-400 m north, 1000-1300 m east
    accuracy = np.full((2, 2), 0.9, dtype=np.float32)
    image = channels(MapRaster(city).draw(VIEW, LAYERS["no2"], FieldScene(values, accuracy)))
    bright = image[:, :, 0] > 150
    rows, columns = np.nonzero(bright)
    assert rows.min() == pytest.approx(40, abs=2)
    assert rows.max() == pytest.approx(79, abs=2)
    assert columns.min() == pytest.approx(200, abs=2)
    assert columns.max() == pytest.approx(259, abs=2)


def test_an_unknown_field_is_dotted_not_dark(city: City) -> None:
    values = np.full(city.grid.shape, np.nan, dtype=np.float32)
    image = channels(
        MapRaster(city).draw(VIEW, LAYERS["no2"], FieldScene(values, np.full((2, 2), 0.9, np.float32)))
    )
    assert (image.sum(axis=2) > 200).mean() == pytest.approx(1 / 49, rel=0.3)


def test_the_same_view_gives_the_same_image(city: City) -> None:
    raster = MapRaster(city)
    first = raster.draw(VIEW, FLOW, roads([100.0, 200.0, 300.0]))
    raster.draw(VIEW, FLOW, roads([900.0, 900.0, 900.0]))
    np.testing.assert_array_equal(raster.draw(VIEW, FLOW, roads([100.0, 200.0, 300.0])), first)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    c = rgb_of(colour).astype(np.float64) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def lab(rgb_linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB of linear sRGB, D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ rgb_linear / (0.9505, 1.0, 1.089), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# Machado, Oliveira and Fernandes 2009, IEEE TVCG 15(6), severity 1.0
BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}


@pytest.mark.parametrize("colour", PRIORITY.values())
def test_alarm_colours_stand_out_from_the_background(colour: str) -> None:
    assert (luminance(colour) + 0.05) / (luminance(BACKGROUND) + 0.05) > 4.5


@pytest.mark.parametrize("blindness", BLINDNESS)
def test_alarm_colours_differ_for_every_eye(blindness: str) -> None:
    points = []
    for colour in PRIORITY.values():
        c = rgb_of(colour).astype(np.float64) / 255
        linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        points.append(lab(np.clip(BLINDNESS[blindness] @ linear, 0, 1)))
    distances = [np.linalg.norm(a - b) for i, a in enumerate(points) for b in points[:i]]
    assert min(distances) > 25
