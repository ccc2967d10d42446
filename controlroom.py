"""The command line of Twinroom: parser and wiring."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from cluster.commands import add_commands, speed_of

if TYPE_CHECKING:
    from agents.engines.embedded import EmbeddedEngine
    from cities.pack import City
    from streams.player import Player
    from streams.recording import Recording
    from studies.prepare import Prepared

WARM_UP_MS = 30 * 60_000  # fusion's longest window of readings
REFUSED = 2  # exit status when the input or the machine stands in the way
CLOSED_PIPE = 141  # as of a program that SIGPIPE ends
DISTRIBUTED = ("aiokafka", "faust", "prometheus_client", "pyarrow", "redis", "uvloop")  # of the extra
VALIDATED = {
    "air": "streets of SRM1 (.csv) or cases of SRM2 (.json)",
    "noise": "cases of emission and propagation (.json)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    try:
        try:
            return _main(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the flush at exit complains
        return CLOSED_PIPE


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    from cities.pack import CityError
    from streams.cluster import ClusterError
    from streams.recording import RecordingError
    from streams.store import StoreError

    try:
        status: int = options.command(options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DISTRIBUTED:
            raise
        print(f"twinroom: {error.name} is not installed: pip install -e '.[distributed]'", file=sys.stderr)
        return REFUSED
    except (CityError, ClusterError, RecordingError, StoreError, OptionError) as error:
        print(f"twinroom: {error}", file=sys.stderr)
        return REFUSED
    return status


class OptionError(ValueError):
    """An option that does not fit the recording or the city."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twinroom", description="A streaming control room for the digital twin of a city."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = _command(commands, "run", _run, "the control room, playing the city's recording",
                   "twinroom run --city ghent --speed 20 --from 07:45")  # fmt: skip
    run.add_argument("--city", default="ghent", help="a bundled city or a folder (default: ghent)")
    run.add_argument("--recording", type=Path, help="another recording than the city's own")
    run.add_argument("--port", type=int, default=5006, help="of the page, on 127.0.0.1 (default: 5006)")
    run.add_argument("--for", dest="seconds", type=_duration, help="end after this long, as in 30s or 5m")
    run.add_argument("--no-dashboard", action="store_true", help="without the page")
    _play_options(run, "20")

    replay = _command(commands, "replay", _replay, "the same agents over a recording, and a report",
                      "twinroom replay cities/ghent --speed max --report a.json")  # fmt: skip
    replay.add_argument("recording", type=Path, help="a recording, or the folder of a city (its recording)")
    replay.add_argument("--city", help="city of the recording (default: its folder, else its header)")
    _play_options(replay, "max")

    city = commands.add_parser("city", help="city packs").add_subparsers(required=True, metavar="COMMAND")
    prepare = _command(city, "prepare", _prepare, "what is known before any sensor speaks",
                       "twinroom city prepare --city cities/ghent")  # fmt: skip
    prepare.add_argument("--city", default="ghent", help="a bundled city or a folder (default: ghent)")
    importing = _command(city, "import", _import_city, "a city pack from GeoJSON or OpenStreetMap (.osm.pbf)",
                         "twinroom city import --network geneva.osm.pbf --out geneva")  # fmt: skip
    importing.add_argument("--network", type=Path, required=True, help="streets: GeoJSON, .osm.pbf or .osm")
    importing.add_argument(
        "--sensors", type=Path, help="GeoJSON; points without a segment_id are map-matched"
    )
    importing.add_argument("--buildings", type=Path,
                           help="GeoJSON or .osm.pbf (default: those of an .osm.pbf network)")  # fmt: skip
    importing.add_argument("--settings", type=Path,
                           help="city.toml (default: that beside the network, else assumed)")  # fmt: skip
    importing.add_argument("--name", help="of the city (default: of its file or folder)")
    importing.add_argument("--timezone", help="as Europe/Zurich (default: that of city.toml, else UTC)")
    importing.add_argument("--out", type=Path, required=True, help="folder of the new city pack")

    recordings = commands.add_parser("recording", help="recordings").add_subparsers(
        required=True, metavar="COMMAND"
    )
    lines = _command(recordings, "import", _import_recording, "a recording from JSON Lines (gzip too)",
                     "twinroom recording import a.jsonl --city geneva --out geneva/a.jsonl.gz")  # fmt: skip
    lines.add_argument("file", type=Path, help="one reading a line")
    lines.add_argument("--city", required=True, help="a bundled city or a folder, for its sensors")
    lines.add_argument("--out", type=Path, required=True, help="the recording (.jsonl.gz)")

    judge = _command(commands, "evaluate", _evaluate, "what fusion is worth, against a truth",
                     "twinroom evaluate --truth cities/ghent/truth.csv.gz --report ghent.json")  # fmt: skip
    judge.add_argument("--city", default="ghent", help="a bundled city or a folder (default: ghent)")
    judge.add_argument("--recording", type=Path, help="another recording than the city's own")
    judge.add_argument("--truth", type=Path, required=True,
                       help="CSV (.gz too): segment_id, direction, mode, start_utc, minutes, "
                            "flow_per_h")  # fmt: skip
    judge.add_argument("--report", type=Path, required=True, help="write the figures as JSON")
    judge.add_argument("--html", type=Path, help="page of plots (default: the report's path as .html)")
    judge.add_argument("--estimates", type=Path, help="write what was published as CSV (.gz if named so)")
    judge.add_argument("--minutes", type=int, default=15, help="of a window, a divisor of 60 (default: 15)")
    judge.add_argument("--from", dest="first", metavar="T", help="start at, HH:MM local or ISO 8601")
    judge.add_argument("--to", dest="last", metavar="T", help="end before, HH:MM local or ISO 8601")

    validate = commands.add_parser("validate", help="known cases, calculated again").add_subparsers(
        required=True, metavar="COMMAND"
    )
    for subject, files in VALIDATED.items():
        check = _command(validate, subject, _validate, f"conformity of {subject}: {files}",
                         f"twinroom validate {subject} --cases F --report {subject}.json")  # fmt: skip
        check.add_argument("--cases", type=Path, required=True, help=files)
        check.add_argument("--report", type=Path, help="write the conformity report as JSON")
        check.set_defaults(subject=subject)

    at_points = _command(commands, "study", _study, "noise and air at given points for given traffic",
                         "twinroom study --city geneva --traffic T.csv --receptors R.csv --out L.csv "
                         "--reflections 1 --surface NL05")  # fmt: skip
    _study_options(at_points)

    doctor = _command(commands, "doctor", _doctor, "check Python, packages, port, cache and city pack",
                      "twinroom doctor")  # fmt: skip
    doctor.add_argument("--city", default="ghent", help="a bundled city or a folder (default: ghent)")
    doctor.add_argument("--port", type=int, default=5006)

    add_commands(commands, _command)
    page = _command(commands, "dashboard", _dashboard, "the page of a region that workers run",
                    "twinroom dashboard --cluster cluster.toml --region ghent")  # fmt: skip
    page.add_argument("--cluster", type=Path, required=True, metavar="F", help="cluster.toml")
    page.add_argument("--region", required=True, help="one of those in cluster.toml")
    page.add_argument("--port", type=int, default=5006, help="of the page (default: 5006)")
    page.add_argument("--address", default="127.0.0.1", help="of the page (default: 127.0.0.1)")
    page.add_argument("--origin", action="append", default=[], metavar="HOST[:PORT]",
                      help="under which a proxy serves the page; may be given several times")  # fmt: skip

    bench = _command(commands, "bench", _bench, "a benchmark, with the machine's limit of the same run",
                     "twinroom bench room --report room.json")  # fmt: skip
    bench.add_argument("name", choices=("air", "cluster", "fusion", "noise", "page", "room", "all"))
    bench.add_argument("--report", type=Path, help="write the figures as JSON")
    bench.add_argument("--city", type=Path, metavar="DIR",
                       help="a pack with buildings, for noise (default: a town of blocks)")  # fmt: skip
    return parser


def _command(
    commands: Any, name: str, function: Callable[[argparse.Namespace], int], text: str, example: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=f"example: {example}"
    )
    command.set_defaults(command=function)
    return command


def _play_options(command: argparse.ArgumentParser, speed: str) -> None:
    command.add_argument("--speed", type=speed_of, default=speed,
                         help=f"times real time, or max (default: {speed})")  # fmt: skip
    command.add_argument("--from", dest="first", metavar="T", help="start at, HH:MM local or ISO 8601")
    command.add_argument("--to", dest="last", metavar="T", help="end before, HH:MM local or ISO 8601")
    command.add_argument("--batch", type=int, default=500, help="rows handed over at once; changes nothing")
    command.add_argument("--state", type=Path, help="keep snapshots here, and go on from them")
    command.add_argument("--report", type=Path, help="write what the run did as JSON")


def _study_options(command: argparse.ArgumentParser) -> None:
    noise = "default: [noise]"
    add = command.add_argument
    add("--city", required=True, metavar="DIR", help="a bundled city or a folder")
    add("--traffic", type=Path, required=True, metavar="T.csv",
        help="segment_id, period (day, evening, night), mode, flow_per_h, speed_kmh")  # fmt: skip
    add("--receptors", type=Path, required=True, metavar="R.csv",
        help="id, and x, y (CRS of the city) or lon, lat; height_m, for noise, may be missing")  # fmt: skip
    add("--out", type=Path, required=True, metavar="L.csv", help="levels and concentrations")
    add("--report", type=Path, help="write settings, counts and findings as JSON")
    add("--surface", metavar="ID", help="of all segments, as NL05 (default: that of each segment)")
    add("--wall-absorption", type=float, metavar="A",
        help=f"of facades, 0 to 1 ({noise} wall_absorption, a hard face)")  # fmt: skip
    add("--ground-factor", type=float, metavar="G",
        help="0 hard to 1 porous, everywhere (default: land cover, [noise] ground_factor, 0.5)")  # fmt: skip
    add("--temperature", type=float, metavar="C",
        help=f"of the air [degC] ({noise} annual_temperature_c, 10)")  # fmt: skip
    add("--humidity", type=float, metavar="P", help=f"of the air [%%] ({noise} humidity_percent, 70)")
    add("--p-favourable", type=float, metavar="P",
        help=f"share of the time with downward refraction, 0 to 1 ({noise} p_favourable, 0.5)")  # fmt: skip
    add("--distance", type=float, metavar="M",
        help=f"to which roads are heard [m] ({noise} max_distance_m, 800)")  # fmt: skip
    add("--reflections", type=int, choices=(0, 1), help=f"order ({noise} reflections, 1)")
    add("--coefficients", choices=("2021", "2015", "nl"), help="of the source model (default: 2021)")


def _run(options: argparse.Namespace) -> int:
    from cities.pack import find_city, load_city
    from streams.recording import read_recording

    print("Live feeds are not built yet: playing the city's recording. Simulated inputs are marked.")
    city = load_city(find_city(options.city))
    recording = read_recording(options.recording or city.folder)
    return _play(city, recording, options)


def _replay(options: argparse.Namespace) -> int:
    from cities.pack import find_city, load_city
    from streams.recording import read_recording

    recording = read_recording(options.recording)
    folder = recording.path.parent
    if options.city is None and not (folder / "city.toml").is_file():
        options.city = recording.header.get("city")
        if options.city is None:
            raise OptionError(f"{recording.path}: says no city; name it with --city")
    city = load_city(find_city(options.city or str(folder)))
    return _play(city, recording, options)


def _play(city: City, recording: Recording, options: argparse.Namespace) -> int:
    from threadpoolctl import threadpool_limits

    from agents.engines.report import run_report, write_report

    _check_network(recording, city)
    with ExitStack() as held:
        # results are the same on any machine size only with one thread of linear algebra
        held.enter_context(threadpool_limits(limits=1, user_api="blas"))
        engine, player, prepared = _wire(city, recording, options, held)
        first_ms = engine.now_ms or player.status().start_ms
        started = time.monotonic()
        if getattr(options, "no_dashboard", True):
            _play_alone(player, getattr(options, "seconds", None))
        else:
            _play_with_page(city, engine, player, prepared.noise.findings, options)
        wall_s = time.monotonic() - started
        if player.status().finished:  # else the last snapshot stands, which is whole
            engine.save(player.offset)
        if recording.damage is not None:
            print(f"twinroom: {recording.path}: {recording.damage.reason}", file=sys.stderr)
        if options.report:
            report = run_report(
                engine, player.status(), recording=recording.path.name, first_ms=first_ms, wall_s=wall_s
            )
            write_report(report, options.report)
            print(f"{options.report}: {report['steps']} steps, {report['times_real_time']} times real time, "
                  f"digest {report['digest'][:16]}")  # fmt: skip
    return 0


def _check_network(recording: Recording, city: City) -> None:
    named = recording.header.get("network_hash")
    if named is not None and named != city.network_hash:
        raise OptionError(
            f"{recording.path}: network_hash: was made for network {named}, "
            f"the city {city.name} has {city.network_hash}"
        )


def _wire(
    city: City, recording: Recording, options: argparse.Namespace, held: ExitStack
) -> tuple[EmbeddedEngine, Player, Prepared]:
    """Agents, engine and player of a run, and the prepared city."""
    from agents.engines.embedded import EmbeddedEngine
    from agents.room import make_agents
    from streams.player import Player
    from streams.store import Store
    from studies.prepare import prepare_city

    first_ms, last_ms = (_moment(t, city, recording) for t in (options.first, options.last))
    prepared = prepare_city(city, _progress)
    _tidy()
    store = None
    if options.state:
        run = f"{city.network_hash} {recording.content_hash} from {first_ms} to {last_ms}"
        store = held.enter_context(Store(options.state, run))
    engine = EmbeddedEngine(
        city,
        make_agents(city, prepared.prior, prepared.air, prepared.noise),
        store=store,
        publish_from_ms=first_ms or 0,
        keep_digest=options.report is not None,
    )
    offset = engine.resume()
    if offset:
        print(f"Going on from the snapshot at line {offset} of the recording.")
    try:
        player = Player(
            recording,
            engine,
            speed=options.speed,
            from_ms=first_ms,
            to_ms=last_ms,
            warm_up_ms=WARM_UP_MS if first_ms else 0,
            batch_rows=options.batch,
            offset=offset,
        )
    except ValueError as error:
        raise OptionError(str(error)) from error
    return engine, player, prepared


def _play_alone(player: Player, seconds: float | None) -> None:
    timer = None
    if seconds is not None:
        timer = threading.Timer(seconds, player.stop)
        timer.start()
    try:
        player.run()
    except KeyboardInterrupt:
        player.stop()
    finally:
        if timer is not None:
            timer.cancel()


def _play_with_page(
    city: City,
    engine: EmbeddedEngine,
    player: Player,
    noise_findings: Sequence[str],
    options: argparse.Namespace,
) -> None:
    from dashboards.board import Board
    from dashboards.room import RoomControl
    from dashboards.server import PortInUseError, make_server
    from streams.topics import Topic

    board = Board(city, noise_findings)
    for batch in engine.audit():  # alarms that were standing when the room was stopped
        board.apply(batch)
    engine.bus.subscribe(Topic, board.apply)
    control = RoomControl(engine, player)
    engine.on_step.append(control.stepped)
    engine.on_step.append(lambda now_ms, _wall_s: board.close(now_ms))
    try:
        server = make_server(city, board, control, port=options.port)
    except PortInUseError as error:
        raise OptionError(str(error)) from error
    server.start()
    failures: list[BaseException] = []

    def play() -> None:
        try:
            player.run()
        except BaseException as error:
            failures.append(error)
            server.io_loop.add_callback(server.io_loop.stop)

    thread = threading.Thread(target=play, name="player", daemon=True)
    print(f"The control room of {city.title} is at http://127.0.0.1:{options.port} (Ctrl+C ends it).")
    thread.start()

    def end(*_: object) -> None:
        server.io_loop.add_callback_from_signal(server.io_loop.stop)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    if options.seconds is not None:
        server.io_loop.call_later(options.seconds, server.io_loop.stop)
    server.io_loop.start()
    player.stop()
    thread.join(timeout=10)
    server.stop()
    if failures:
        raise failures[0]


def _dashboard(options: argparse.Namespace) -> int:
    from cities.pack import find_city, load_city
    from dashboards.board import Board
    from dashboards.feed_frames import FrameFeed
    from dashboards.remote import RemoteControl
    from dashboards.server import PortInUseError, make_server
    from streams.cluster import read_cluster

    cluster = read_cluster(options.cluster)
    city = load_city(find_city(cluster.packs[cluster.partition_of(options.region)]))
    board = Board(city)
    feed = FrameFeed(cluster, options.region, board)
    control = RemoteControl(cluster, options.region, city, board, feed)
    try:
        server = make_server(
            city, board, control, port=options.port, address=options.address, origins=options.origin
        )
    except PortInUseError as error:
        raise OptionError(str(error)) from error
    server.start()
    feed.start()
    print(f"The dashboard of {city.title} is at http://{options.address}:{server.port} (Ctrl+C ends it).",
          flush=True)  # fmt: skip

    def end(*_: object) -> None:
        server.io_loop.add_callback_from_signal(server.io_loop.stop)

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    server.io_loop.start()
    feed.close()
    server.stop()
    server.room.close()
    control.close()
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from cities.cache import cache_folder
    from cities.pack import find_city, load_city
    from studies.prepare import prepare_city

    city = load_city(find_city(options.city))
    started = time.monotonic()
    prepared = prepare_city(city, _progress, compact=False)
    wall_s = time.monotonic() - started
    _tidy()
    for finding in prepared.noise.findings:
        print(f"noise: {finding}")
    revision = prepared.prior.revision
    print(f"{city.title}: prepared in {wall_s:.1f} s, prior {revision}, kept in {cache_folder()}")
    return 0


def _tidy() -> None:
    """Keep the cache within its size, and say what went."""
    from cities.cache import MAX_BYTES, tidy

    removed = tidy()
    if removed:
        gb = sum(entry.n_bytes for entry in removed) / 1e9
        print(f"cache: {gb:.1f} GB removed that was unused longest, to stay within {MAX_BYTES / 1e9:.0f} GB",
              file=sys.stderr)  # fmt: skip


def _import_city(options: argparse.Namespace) -> int:
    from cities.importers.city import Source, import_city

    source = Source(
        network=options.network,
        sensors=options.sensors,
        buildings=options.buildings,
        settings=options.settings,
        name=options.name,
        timezone=options.timezone,
    )
    started = time.monotonic()
    imported = import_city(source, options.out)
    print("\n".join(imported.lines))
    print(f"{options.out}: {imported.city.title} imported in {time.monotonic() - started:.1f} s")
    return 0


def _import_recording(options: argparse.Namespace) -> int:
    from cities.pack import find_city, load_city
    from streams.recording_import import import_recording

    city = load_city(find_city(options.city))
    report = import_recording(options.file, city, options.out)
    print("\n".join(report.lines()))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from threadpoolctl import threadpool_limits

    from cities.pack import find_city, load_city
    from streams.recording import read_recording
    from studies.evaluate import evaluate, play, summary, write_estimates, write_report
    from studies.evaluate_page import write_page
    from studies.evaluate_truth import EvaluateError, read_truth
    from studies.prior import prepare_prior

    city = load_city(find_city(options.city))
    recording = read_recording(options.recording or city.folder)
    _check_network(recording, city)
    first_ms, last_ms = (_moment(t, city, recording) for t in (options.first, options.last))
    try:
        truth = read_truth(options.truth, city, options.minutes)
        for warning in truth.warnings:
            print(f"twinroom: {options.truth}: {warning}", file=sys.stderr)
        prior = prepare_prior(city, _progress)
        with threadpool_limits(limits=1, user_api="blas"):
            played = play(city, prior, recording, options.minutes, _progress,
                          from_ms=first_ms, to_ms=last_ms, warm_up_ms=WARM_UP_MS)  # fmt: skip
        evaluation = evaluate(city, prior, recording, truth, played, options.minutes)
    except EvaluateError as error:
        raise OptionError(str(error)) from error
    if recording.damage is not None:
        print(f"twinroom: {recording.path}: {recording.damage.reason}", file=sys.stderr)
    write_report(evaluation.report, options.report)
    page = options.html or options.report.with_suffix(".html")
    write_page(evaluation, city, page)
    for line in summary(evaluation.report):
        print(line)
    if options.estimates:
        n_rows = write_estimates(options.estimates, city, played, evaluation.counted, options.minutes)
        print(f"{options.estimates}: {n_rows} rows")
    print(f"{options.report}, {page}")
    return 0


def _validate(options: argparse.Namespace) -> int:
    from studies.validate import CasesError, write_conformity

    if options.subject == "air":
        from studies.validate_air import validate_air as validate
    else:
        from studies.validate_noise import validate_noise as validate
    try:
        conformity = validate(options.cases)
    except CasesError as error:
        raise OptionError(str(error)) from error
    print("\n".join(conformity.lines()))
    if options.report:
        write_conformity(conformity, options.report)
        print(options.report)
    return 0 if conformity.is_met else 1


def _study(options: argparse.Namespace) -> int:
    from cities.pack import find_city, load_city
    from studies.study import study, study_report, write_report, write_study
    from studies.study_settings import StudyOptions
    from studies.study_tables import StudyError

    wanted = StudyOptions(
        surface=options.surface,
        wall_absorption=options.wall_absorption,
        ground_factor=options.ground_factor,
        temperature_c=options.temperature,
        humidity_percent=options.humidity,
        p_favourable=options.p_favourable,
        distance_m=options.distance,
        reflections=options.reflections,
        coefficients=options.coefficients,
    )
    city = load_city(find_city(options.city))
    try:
        found = study(city, options.traffic, options.receptors, wanted, _progress)
        write_study(found, options.out)
        if options.report:
            write_report(study_report(found, city, options.traffic, options.receptors), options.report)
    except StudyError as error:
        raise OptionError(str(error)) from error
    for finding in found.findings:
        print(finding)
    counts, seconds = found.counts, sum(found.seconds.values())
    print(f"{options.out}: {counts['receptors_with_level']} of {counts['receptors']} receptors have a level, "
          f"{counts['paths']} paths and {counts['reflected_paths']} reflected, {seconds:.1f} s")  # fmt: skip
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from studies.doctor import examine

    findings = examine(options.city, options.port)
    for finding in findings:
        print(f"{'ok  ' if finding.is_well else 'FAIL'} {finding.subject}: {finding.text}")
    return 0 if all(finding.is_well for finding in findings) else 1


def _bench(options: argparse.Namespace) -> int:
    from benchmarks.run import run_benchmarks

    run_benchmarks(options.name, options.report, options.city)
    return 0


class _Progress:
    """A bar on the terminal, elsewhere a line twice a minute; what is too long for a bar has its own line."""

    NAME_WIDTH, BAR_WIDTH = 42, 30  # with the percentage they fit into 80 columns
    EVERY_S = 30.0

    def __init__(self) -> None:
        self._told_s = time.monotonic()

    def __call__(self, what: str, fraction: float) -> None:
        line_start = "\r\x1b[K" if sys.stderr.isatty() else ""  # takes away the bar that stands there
        now_s = time.monotonic()
        if len(what) > self.NAME_WIDTH:
            print(f"{line_start}{what}", file=sys.stderr)
        elif line_start:
            filled = int(self.BAR_WIDTH * fraction)
            bar = f"{'#' * filled}{'.' * (self.BAR_WIDTH - filled)}"
            end = "\n" if fraction >= 1 else ""
            print(f"{line_start}{what:<{self.NAME_WIDTH}} [{bar}] {fraction:4.0%}", end=end, flush=True,
                  file=sys.stderr)  # fmt: skip
        elif fraction >= 1 or now_s - self._told_s >= self.EVERY_S:
            self._told_s = now_s
            print(f"{what}: {'done' if fraction >= 1 else f'{fraction:.0%}'}", file=sys.stderr)


_progress = _Progress()


def _duration(text: str) -> float:
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    try:
        return float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected seconds, or as 30s, 5m, 1h") from None


def _moment(text: str | None, city: City, recording: Recording) -> int | None:
    """Time of an option: ISO 8601 with an offset, or HH:MM local on the recording's first day."""
    if text is None:
        return None
    zone = ZoneInfo(city.timezone)
    try:
        if "T" in text:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=zone)
        else:
            day = datetime.fromtimestamp(recording.span_ms()[0] / 1000, zone)
            hour, minute = (int(part) for part in text.split(":"))
            moment = day.replace(hour=hour, minute=minute, second=0, microsecond=0)
    except ValueError:
        raise OptionError(f"time: got {text!r}, expected HH:MM or ISO 8601") from None
    return round(moment.timestamp() * 1000)


if __name__ == "__main__":
    sys.exit(main())
