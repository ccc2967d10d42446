"use strict";
/* The operators' page: writes the state that the server sends, and sends what the operator does.
   All data go in as text (textContent), never as markup: a street may be named anything. */
(() => {
  const byId = (id) => document.getElementById(id);
  const room = (window.twinroom = { state: null, clock: null, why: null, origin: null, heard: performance.now() });
  const SILENT_AFTER_MS = 5000;
  const SPEEDS = [1, 5, 20, 60, "max"];
  let model = null;
  let counter = 0;
  const shown = {};

  function element(tag, classes, text, ...children) {
    const made = document.createElement(tag);
    if (classes) made.className = classes;
    if (text !== undefined && text !== null) made.textContent = text;
    made.append(...children);
    return made;
  }
  function setText(id, text) {
    const at = byId(id);
    if (at.textContent !== String(text)) at.textContent = text;
  }
  function send(name, value = null) {
    if (model === null) return;
    counter += 1;
    model("command").data = { json: [JSON.stringify({ n: counter, name, value })] };
  }
  /* A part is rebuilt only when its data changed, so that a focused button stays where it is. */
  function changed(part, data) {
    const text = JSON.stringify(data);
    if (shown[part] === text) return false;
    shown[part] = text;
    return true;
  }

  // ---- clock ----
  function showClock(clock) {
    room.clock = clock;
    room.heard = performance.now();
    setText("mode", clock.mode);
    document.body.classList.toggle("live", !clock.has_transport);
    for (const part of document.querySelectorAll("[data-replay]")) part.hidden = !clock.has_transport;
    setText("notices", clock.notices.join(" · "));
    setText("date", clock.date);
    setText("local", clock.local);
    setText("utc", clock.utc);
    setText("speed-shown", clock.speed_text);
    setText("play-state", clock.finished ? "ended" : clock.playing ? "" : "paused");
    setText("start", clock.start);
    setText("end", clock.end);
    const percent = 100 * clock.fraction;
    byId("progress").querySelector("i").style.width = `${percent}%`;
    byId("progress").querySelector("b").style.left = `${percent}%`;
    byId("progress").setAttribute("aria-valuenow", percent.toFixed(0));
    const play = byId("play");
    const label = clock.playing ? "Pause" : "Play";
    if (play.getAttribute("aria-label") !== label) {
      play.setAttribute("aria-label", label);
      play.title = `${label} (Space)`;
      play.textContent = clock.playing ? "❚❚" : "▶";
    }
    play.disabled = clock.finished;
    for (const button of document.querySelectorAll("[data-speed]"))
      button.setAttribute("aria-pressed", String(button.dataset.speed === String(clock.speed)));
    document.title = `${clock.mode} ${clock.local.slice(0, 5)} · ${room.state ? room.state.city : ""} · Twinroom`;
  }

  // ---- state ----
  function showState(state) {
    room.state = state;
    for (const input of document.querySelectorAll("input[name=layer]")) input.checked = input.value === state.layer;
    for (const button of document.querySelectorAll("[data-averaging]"))
      button.setAttribute("aria-pressed", String(button.dataset.averaging === state.switches[button.closest("[data-group]").dataset.group]));
    setText("n-readings", state.n_readings);
    setText("n-dead", state.n_dead_letters);
    setText("n-changed", state.n_changed_segments);
    setText("step-wall", `${state.step_wall_s === null ? "–" : state.step_wall_s.toFixed(2)} s`);
    byId("message").hidden = !state.message;
    setText("message", state.message);
    if (changed("legend", state.legend)) showLegend(state.legend);
    if (changed("feeds", state.feeds)) showFeeds(state.feeds);
    if (changed("faults", state.faults)) showFaults(state.faults);
    if (changed("figures", state.figures)) showFigures(state.figures);
    if (changed("rolling", state.rolling)) showRolling(state.rolling);
    if (changed("noise-day", state.noise_day)) showNoiseDay(state.noise_day);
    if (changed("alarms", state.alarms)) showAlarms(state.alarms);
    if (changed("street", state.street)) showStreet(state.street);
    showWhy();
  }
  function showLegend(legend) {
    byId("legend").title = legend.meaning;
    setText("legend-title", legend.title);
    setText("legend-averaging", legend.averaging);
    setText("legend-unit", legend.unit);
    setText("legend-doubtful", legend.doubtful);
    setText("legend-note", [legend.note, legend.scale].filter(Boolean).join(" · "));
    byId("legend-note").hidden = !(legend.note || legend.scale);
    byId("legend-about").hidden = !legend.about.length;
    byId("legend-findings").replaceChildren(...legend.about.map((text) => element("li", "", text)));
    byId("legend-ticks").replaceChildren(...legend.ticks.map((tick) => {
      const made = element("span", "", tick.text);
      made.style.left = `${100 * tick.at}%`;
      return made;
    }));
  }
  function showFeeds(feeds) {
    const healthy = feeds.filter((feed) => feed.state === "ok").length;
    setText("feeds-count", `${healthy}/${feeds.length}`);
    const worst = feeds.find((feed) => feed.state === "silent") || feeds.find((feed) => feed.state === "late");
    setText("feeds-worst", worst ? `■ ${worst.source} ${worst.text.split(",")[0]}` : "");
    byId("feeds-body").replaceChildren(...feeds.map((feed) => {
      const name = element("td", "", feed.source);
      if (feed.simulated) name.append(" ", element("b", "badge", "S"));
      return element("tr", "", null, name, element("td", feed.state, feed.state), element("td", "dim", feed.text),
        element("td", "n", feed.sensors), element("td", "n", feed.rows));
    }));
  }
  function showFaults(faults) {
    setText("faults-count", faults.length ? `■ ${faults.length} in doubt` : "");
    if (!faults.length) {
      byId("faults").replaceChildren(element("p", "none", "No counter in doubt."));
      return;
    }
    const rows = faults.map((fault) => {
      const button = element("button", "", "Go to");
      button.setAttribute("aria-label", `Go to: ${fault.sensor}, ${fault.street}`);
      button.addEventListener("click", () => { toggleFeeds(false); byId("feeds-button").focus(); send("select", fault.segment); });
      return element("tr", "", null, element("td", "", fault.sensor), element("td", "wide", fault.street), element("td", "dim", fault.modes),
        element("td", "", null, element("b", "badge fault", `■ ${fault.fault}`)), element("td", "dim", fault.since), element("td", "n", null, button));
    });
    byId("faults").replaceChildren(element("table", "faults", null,
      header(["Counter"], ["Street"], ["Mode"], ["Fault"], ["Since"], [""]), element("tbody", "", null, ...rows)));
  }
  /* A number that shrinks where its card is too narrow: about as wide as digits and thin spaces are, in em. */
  function fitted(text) {
    const made = element("b", "", text);
    made.style.setProperty("--em", [...text].reduce((em, sign) => em + (/[0-9–]/.test(sign) ? 0.71 : 0.4), 0.05));
    return made;
  }
  function showFigures(figures) {
    byId("figures").replaceChildren(...figures.map((figure) => {
      const made = element("div", "", null, fitted(figure.value), element("span", "", figure.label));
      made.title = figure.title;
      return made;
    }));
  }
  function showRolling(rolling) {
    byId("rolling").title = rolling.title;
    setText("rolling-note", rolling.note);
    for (const { averaging, is_known: isKnown, title } of rolling.buttons) {
      const button = byId("rolling").querySelector(`[data-averaging="${averaging}"]`);
      button.disabled = !isKnown;
      button.title = title;
    }
  }
  function showNoiseDay(day) {
    const host = byId("noise-day");
    host.hidden = day === null;
    if (day === null) return;
    host.title = day.title;
    const heading = element("h2", "", day.heading, " ", element("span", "", day.when));
    if (day.reason) {
      host.replaceChildren(heading, element("p", "reason", day.reason));
      return;
    }
    const bands = element("div", "bands", null, ...day.bands.map((band) =>
      element("div", "", null, fitted(band.value), element("span", "", band.label))));
    bands.title = day.bands_title;
    const harm = element("p", "harm", null, ...day.harm.map((part) => {
      const made = element("span", "", null, element("b", "", part.value), ` ${part.label}`);
      made.title = part.title;
      return made;
    }));
    host.replaceChildren(heading, bands, harm);
  }
  function showAlarms(alarms) {
    const active = alarms.filter((alarm) => alarm.is_active && alarm.priority < 4).length;
    const quality = alarms.filter((alarm) => alarm.is_active && alarm.priority === 4).length;
    setText("alarm-count", `· ${active} active, ${quality} quality`);
    const before = room.alarmKeys;
    const now = new Set(alarms.filter((alarm) => alarm.can_acknowledge).map((alarm) => alarm.key));
    if (before) announce(alarms.filter((alarm) => now.has(alarm.key) && !before.has(alarm.key)));
    room.alarmKeys = now;
    const rows = alarms.map(alarmRow);
    byId("alarms").replaceChildren(...(rows.length ? rows : [element("li", "none", "No alarms.")]));
  }
  function alarmRow(alarm) {
    const states = alarm.can_acknowledge ? "unacknowledged" : "acknowledged";
    const made = element("li", `p${alarm.priority} ${states}${alarm.is_active ? "" : " cleared"}`);
    made.dataset.key = alarm.key;
    const mark = element("span", "mark", `${alarm.shape}${alarm.letter}`);
    made.append(element("div", "title", null, mark, alarm.title));
    if (alarm.detail) made.append(element("div", "line value", alarm.detail));
    const cleared = alarm.is_active ? "" : "cleared";
    const buttons = element("div", "buttons", null,
      element("span", "line", [alarm.since, cleared, alarm.who].filter(Boolean).join(" · ")));
    if (alarm.action && alarm.is_active) made.append(element("div", "line", `Do: ${alarm.action}`));
    if (alarm.refused) made.append(element("div", "line refused", alarm.refused));
    if (alarm.can_acknowledge) {
      const button = element("button", "acknowledge", "Acknowledge");
      button.setAttribute("aria-label", `Acknowledge: ${alarm.title}`);
      button.addEventListener("click", () => acknowledge(alarm, button));
      buttons.append(button);
    }
    if (alarm.has_place) {
      const button = element("button", "", "Go to");
      button.setAttribute("aria-label", `Go to: ${alarm.title}`);
      button.addEventListener("click", () => send("goto", alarm.key));
      buttons.append(button);
    }
    made.append(buttons);
    return made;
  }
  function acknowledge(alarm, button) {
    if (button) { button.disabled = true; button.textContent = "Acknowledging…"; }
    send("acknowledge", { key: alarm.key, who: "local", note: "" });
  }
  let announcedAt = -1e9;
  function announce(alarms) {
    if (!alarms.length || performance.now() - announcedAt < 5000) return;
    announcedAt = performance.now();
    setText("announce", alarms.length > 3 ? `${alarms.length} new alarms` : alarms.map((alarm) => `New alarm: ${alarm.title}`).join(". "));
  }

  // ---- street ----
  function showStreet(street) {
    document.body.classList.toggle("selected", street !== null);
    if (street === null) {
      setText("street-title", "Street");
      byId("street").replaceChildren(element("p", "none", "None selected. Click a street on the map."));
      return;
    }
    byId("street-title").replaceChildren("Street · ", element("span", "", `segment ${street.id}`));
    byId("street").replaceChildren(
      element("p", "name", street.name), element("p", "facts", `${street.class} · ${street.facts}`),
      flowTable(street.flows), levels(street.levels));
    const sum = (mode) => {
      const rows = street.flows.filter((flow) => flow.mode === mode);
      return rows.length ? `/h · ${Math.round(rows.reduce((total, flow) => total + flow.flow_per_h, 0))}` : "unknown";
    };
    setText("trend-flow_car", sum("Car"));
    setText("trend-flow_bicycle", sum("Bicycle"));
    setText("trend-no2", `µg/m³ · ${street.levels[0].value}`);
    setText("trend-noise", `dB(A) · ${street.levels[3].value}`);
  }
  function header(...names) {
    return element("thead", "", null, element("tr", "", null, ...names.map(([text, classes]) => element("th", classes || "", text))));
  }
  function flowTable(flows) {
    if (!flows.length) return element("p", "none", "Flows unknown.");
    const rows = flows.map((flow) => {
      const bar = element("span", "interval", null);
      if (flow.low !== null && flow.high !== null) {
        const range = element("i");
        range.style.left = `${100 * flow.low}%`;
        range.style.right = `${100 * (1 - flow.high)}%`;
        bar.append(range);
      }
      const mark = element("b");
      mark.style.left = `${Math.min(98, 100 * flow.at)}%`;
      bar.append(mark);
      bar.title = `90 % interval ${flow.interval}`;
      const name = element("td", "", null, flow.mode, " ", element("span", "dim", flow.heading));
      if (flow.simulated) name.append(" ", element("b", "badge", "S"));
      return element("tr", flow.doubtful ? "doubtful" : "", null, name, element("td", "n", flow.flow), element("td", "", null, bar),
        element("td", "n", flow.accuracy), element("td", "n", flow.speed), element("td", "n dim", flow.age));
    });
    return element("table", "flows", null,
      header(["Mode"], ["/h", "n"], ["90 %"], ["Acc.", "n"], ["km/h", "n"], ["Age", "n"]), element("tbody", "", null, ...rows));
  }
  function levels(items) {
    return element("div", "levels", null, ...items.map((item) => {
      if (item.words) {
        const words = element("p", "words", item.words);
        words.title = item.title;
        return words;
      }
      const value = element("b", "", item.value);
      value.dataset.level = item.label;
      const made = element("div", "", null, element("span", "", item.label), value, element("i", "", item.unit));
      if (item.title) made.title = item.title;
      return made;
    }));
  }

  // ---- why ----
  function showWhy() {
    const { street, is_explaining: isExplaining } = room.state;
    const isOpen = street !== null && isExplaining;
    byId("why").hidden = !isOpen;
    byId("why-button").hidden = street === null;
    byId("why-button").setAttribute("aria-expanded", String(isOpen));
    if (!isOpen) return;
    showOrigin(room.origin !== null && room.origin.id === street.id ? room.origin : null);
    const select = byId("why-flow");
    if (changed("why-flows", street.flows.map((flow) => [flow.key, flow.heading])))
      select.replaceChildren(...street.flows.map((flow) => {
        const option = element("option", "", `${flow.mode} ${flow.heading}`);
        option.value = flow.key;
        return option;
      }));
    const isOfStreet = room.why !== null && room.why.id === street.id;
    if (isOfStreet && changed("why-flow", [street.id, room.why.flow])) select.value = room.why.flow;
    setText("why-at", isOfStreet ? room.why.at : "");
    if (!changed("why", isOfStreet ? room.why : street.id)) return;
    byId("why-body").replaceChildren(...(isOfStreet ? whyParts(room.why) : [element("p", "none", street.flows.length ? "Working it out…" : "Flows unknown.")]));
  }
  function whyParts(why) {
    const mark = element("b", why.score.doubtful ? "score doubtful" : "score", why.score.value);
    const evidence = why.evidence.length ? evidenceTable(why.evidence)
      : element("p", "none", "No counter on this street: its flow comes from the model and from counters elsewhere.");
    return [sumTable(why.parts), element("p", "means", null, "Accuracy score ", mark, `: ${why.score.text}.`),
      element("h2", "", "Evidence on this street"), evidence];
  }
  function sumTable(parts) {
    const rows = parts.map((part) => {
      const bar = element("span", "part", null);
      if (part.interval) {
        const range = element("i");
        range.style.left = `${100 * part.interval_low}%`;
        range.style.right = `${100 * (1 - part.interval_high)}%`;
        bar.append(range);
      }
      const moved = element("b", part.kind);
      moved.style.left = `${100 * part.low}%`;
      moved.style.width = `${100 * (part.high - part.low)}%`;
      bar.append(moved);
      const name = element("th", "", part.label);
      name.scope = "row";
      name.title = part.title || part.label;
      const value = element("td", "n", null, element("b", "", part.value), part.kind === "total" ? "/h" : "");
      return element("tr", part.kind, null, name, value, element("td", "", null, bar), element("td", "n dim", part.interval || part.distance));
    });
    const table = element("table", "sum", null, element("tbody", "", null, ...rows));
    table.setAttribute("aria-label", "How the flow adds up, with the distance of each counter; the last line has the 90 % interval");
    return table;
  }
  function evidenceTable(items) {
    const rows = items.flatMap((item) => {
      const name = element("td", "wide", item.sensor);
      name.title = [item.sensor, item.gain].filter(Boolean).join(": ");
      if (item.simulated) name.append(" ", element("b", "badge", "S"));
      const weight = element("td", item.is_low ? "n weight low" : "n weight", item.weight);
      weight.style.setProperty("--share", `${100 * item.share}%`);
      const line = element("tr", item.is_explained ? "explained" : "", null, name, element("td", "dim", `${item.mode} ${item.heading}`), element("td", "n", item.reading),
        element("td", "n", item.expected), weight, element("td", "n dim", item.age));
      const gain = item.is_explained ? item.gain : "";
      if (!item.fault && !gain) return [line];
      const detail = element("td", "detail", null);
      detail.colSpan = 6;
      if (item.fault) detail.append(element("b", "badge fault", `■ ${item.fault}`), ` ${item.detail} `);
      detail.append(gain);
      return [line, element("tr", "detail", null, detail)];
    });
    return element("table", "evidence", null,
      header(["Sensor"], ["Mode"], ["Reads /h", "n"], ["Expects", "n"], ["Weight", "n"], ["Age", "n"]), element("tbody", "", null, ...rows));
  }
  function showOrigin(origin) {
    byId("origin").hidden = origin === null || origin.missing === "";
    if (byId("origin").hidden) return;
    setText("origin-quantity", origin.quantity);
    setText("origin-by", origin.method);
    byId("origin-method").title = origin.reason;
    setText("origin-outside", origin.outside);
    setText("origin-missing", origin.missing || "");
    setText("origin-at", origin.at || "");
    for (const id of ["origin-parts", "origin-table"]) byId(id).hidden = Boolean(origin.missing);
    if (origin.missing) return;
    byId("origin-title").title = byId("origin-table").title = origin.title;
    for (const name of ["background", "traffic", "total"]) setText(`origin-${name}`, origin[name]);
    setText("origin-unit", `${origin.unit} now`);
    /* the names stay while they are the same, so that one can be pressed between two steps */
    if (changed("origin-names", origin.lines.map((line) => [line.id, line.title, line.is_own]))) byId("origin-lines").replaceChildren(...origin.lines.map(originRow));
    origin.lines.forEach((line, k) => {
      const [, distance, value, bar, percent] = byId("origin-lines").rows[k].cells;
      distance.textContent = line.distance;
      value.firstChild.textContent = line.value;
      bar.firstChild.firstChild.style.left = `${100 * line.low}%`;
      bar.firstChild.firstChild.style.width = `${100 * (line.high - line.low)}%`;
      percent.textContent = line.percent;
    });
  }
  function originRow(line) {
    const isOther = line.id && !line.is_own;
    const label = element(isOther ? "button" : "span", "", line.label);
    label.title = line.title;
    if (isOther) {
      label.setAttribute("aria-label", `Go to: ${line.title}`);
      label.addEventListener("click", () => { byId("why").focus(); send("select", line.id); });
    }
    const name = element("th", "", null, label);
    name.scope = "row";
    const bar = element("span", "part", null, element("b", line.id ? "more" : "total"));
    return element("tr", line.is_own ? "own" : "", null, name, element("td", "n dim"), element("td", "n", null, element("b")), element("td", "", null, bar), element("td", "n"));
  }
  function toggleWhy() {
    if (!room.state || room.state.street === null) return;
    const isFocused = byId("why").contains(document.activeElement);
    send("explaining", !room.state.is_explaining);
    if (isFocused) byId("why-button").focus();
  }

  // ---- scale bar ----
  function showScale(plot) {
    const width = plot.inner_width;
    if (!width) return;
    const perPixel = (plot.x_range.end - plot.x_range.start) / width;
    const longest = 150 * perPixel;
    const power = 10 ** Math.floor(Math.log10(longest));
    const length = power * [5, 2, 1].find((step) => step * power <= longest);
    byId("scale").style.width = `${length / perPixel}px`;
    setText("scale-text", length >= 1000 ? `${length / 1000} km` : `${length} m`);
  }

  // ---- what the operator does ----
  function stepSpeed(by) {
    if (!room.clock || !room.clock.has_transport) return;
    const at = SPEEDS.indexOf(room.clock.speed);
    const next = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, (at < 0 ? 2 : at) + by))];
    send("speed", next);
  }
  const togglePlay = () => { if (room.clock && room.clock.has_transport && !room.clock.finished) send(room.clock.playing ? "pause" : "play"); };
  const toggleAveraging = () => room.state && send("averaging", room.state.next_averaging);
  function acknowledgeFirst() {
    const alarm = room.state && room.state.alarms.find((a) => a.can_acknowledge);
    if (alarm) acknowledge(alarm, document.querySelector(`li[data-key="${CSS.escape(alarm.key)}"] .acknowledge`));
  }
  function goToFirst() {
    const alarm = room.state && room.state.alarms.find((a) => a.has_place);
    if (alarm) send("goto", alarm.key);
  }
  function toggleFeeds(open) {
    const panel = byId("feeds-panel");
    panel.hidden = open === undefined ? !panel.hidden : !open;
    byId("feeds-button").setAttribute("aria-expanded", String(!panel.hidden));
  }
  function escape() {
    if (!byId("feeds-panel").hidden) toggleFeeds(false);
    else send("deselect");
  }
  const KEYS = {
    " ": togglePlay, ",": () => stepSpeed(-1), ".": () => stepSpeed(1), k: acknowledgeFirst, g: goToFirst, w: toggleWhy, f: () => toggleFeeds(), 9: toggleAveraging,
    "?": () => byId("help").showModal(), "+": () => send("zoom", 0.5), "-": () => send("zoom", 2),
  };
  const ALWAYS = {
    Escape: escape, Home: () => send("home"), ArrowLeft: () => send("pan", [-0.2, 0]), ArrowRight: () => send("pan", [0.2, 0]),
    ArrowUp: () => send("pan", [0, 0.2]), ArrowDown: () => send("pan", [0, -0.2]),
  };
  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || byId("help").open) return;
    const at = event.target;
    const isRadio = at.tagName === "INPUT" && at.type === "radio";
    if (at.tagName === "SELECT" && event.key !== "Escape") return;
    if (at.tagName === "INPUT" && !isRadio) return;
    if (event.key === " " && (at.tagName === "BUTTON" || isRadio)) return;
    if (event.key.startsWith("Arrow") && isRadio) return;
    const layer = /^[1-8]$/.test(event.key) ? document.querySelectorAll("input[name=layer]")[Number(event.key) - 1] : null;
    const keysOn = byId("keys-on").checked;
    const act = ALWAYS[event.key] || (keysOn && KEYS[event.key.toLowerCase()]);
    if (layer && keysOn) send("layer", layer.value);
    else if (act) act();
    else return;
    event.preventDefault();
  }
  function listen() {
    document.addEventListener("keydown", onKey);
    for (const input of document.querySelectorAll("input[name=layer]"))
      input.addEventListener("change", () => send("layer", input.value));
    for (const button of document.querySelectorAll("[data-averaging]"))
      button.addEventListener("click", () => send("averaging", button.dataset.averaging));
    for (const button of document.querySelectorAll("[data-speed]"))
      button.addEventListener("click", () => send("speed", button.dataset.speed === "max" ? "max" : Number(button.dataset.speed)));
    for (const button of document.querySelectorAll("[data-command]"))
      button.addEventListener("click", () => send(button.dataset.command, button.dataset.value ? Number(button.dataset.value) : null));
    byId("play").addEventListener("click", togglePlay);
    byId("feeds-button").addEventListener("click", () => toggleFeeds());
    byId("why-button").addEventListener("click", toggleWhy);
    byId("why-close").addEventListener("click", toggleWhy);
    byId("why-flow").addEventListener("change", () => send("explain", byId("why-flow").value));
    byId("help-button").addEventListener("click", () => byId("help").showModal());
  }
  function watch() {
    const silent = performance.now() - room.heard;
    const isStale = silent > SILENT_AFTER_MS;
    document.body.classList.toggle("stale", isStale);
    byId("watchdog").hidden = !isStale;
    if (isStale) setText("watchdog", `No word from the server for ${Math.round(silent / 1000)} s. What is shown is old.`);
  }

  function follow(name, show) {
    const source = model(name);
    const read = () => { const text = source.data.json[0]; if (text) show(JSON.parse(text)); };
    source.properties.data.change.connect(read);
    read();
  }
  function start(bokehDocument) {
    model = (name) => bokehDocument.get_model_by_name(name);
    follow("state", showState);
    follow("clock", showClock);
    follow("why", (why) => { room.why = why; if (room.state) showWhy(); });
    follow("origin", (origin) => { room.origin = origin; if (room.state) showWhy(); });
    const plot = model("map");
    const host = byId("map-host");
    new ResizeObserver(() => send("size", [host.clientWidth, host.clientHeight])).observe(host);
    for (const range of [plot.x_range, plot.y_range]) range.change.connect(() => showScale(plot));
    setInterval(() => showScale(plot), 1000);
    document.body.classList.remove("loading");
  }
  /* Bokeh puts its document into a global list when its socket has opened. */
  function waitForBokeh() {
    const found = window.Bokeh && window.Bokeh.documents && window.Bokeh.documents.find((d) => d.get_model_by_name("map"));
    if (found) start(found);
    else setTimeout(waitForBokeh, 30);
  }
  listen();
  setInterval(watch, 1000);
  waitForBokeh();
})();
