(function () {
  "use strict";
  var root = document.documentElement;

  function setUpTheme() {
    var button = document.getElementById("theme"), dark = matchMedia("(prefers-color-scheme: dark)");
    function isDark() { return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches; }
    function show() {
      button.textContent = isDark() ? "Light" : "Dark";
      button.setAttribute("aria-label", "Switch to " + (isDark() ? "light" : "dark") + " colours");
    }
    button.addEventListener("click", function () {
      root.dataset.theme = isDark() ? "light" : "dark";
      show();
      try { localStorage.setItem("report-theme", root.dataset.theme); }
      catch (error) { console.info("The theme is not kept: " + error.message); }
    });
    dark.addEventListener("change", show);
    show();
    button.hidden = false;
  }

  function setUpComparison(sample) {
    var box = sample.querySelector(".compare"), slider = box.querySelector("input");
    var stage = box.querySelector(".stage"), over = box.querySelector(".over"), under = box.querySelector(".under");
    function picture(side) {
      var chosen = box.querySelector('[data-side="' + side + '"]').value;
      return sample.querySelector('[data-cell="' + chosen + '"]');
    }
    function choose() {
      var left = picture("left"), right = picture("right");
      over.src = left.src; over.alt = left.alt;
      under.src = right.src; under.alt = right.alt;
      slide();
    }
    function slide() {
      stage.style.setProperty("--share", slider.value + "%");
      slider.setAttribute("aria-valuetext", slider.value + " % " + over.alt + ", the rest " + under.alt);
    }
    function drag(event) {
      var place = stage.getBoundingClientRect();
      slider.value = Math.round(100 * (event.clientX - place.left) / place.width);
      slide();
    }
    over.addEventListener("load", function () { stage.style.setProperty("--ratio", over.naturalWidth / over.naturalHeight); });
    slider.addEventListener("input", slide);
    box.querySelectorAll("select").forEach(function (list) { list.addEventListener("change", choose); });
    stage.addEventListener("pointerdown", function (event) { stage.setPointerCapture(event.pointerId); drag(event); });
    stage.addEventListener("pointermove", function (event) { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
    box.hidden = false;
    choose();
  }

  function setUpContents() {
    var links = {};
    document.querySelectorAll("nav a").forEach(function (link) { links[link.hash.slice(1)] = link; });
    var seen = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (!entry.isIntersecting || !links[entry.target.id]) return;
        Object.keys(links).forEach(function (id) { links[id].removeAttribute("aria-current"); });
        var link = links[entry.target.id], bar = link.closest("nav");
        link.setAttribute("aria-current", "true");
        bar.scrollLeft = link.offsetLeft - bar.clientWidth / 3;
      });
    }, { rootMargin: "-15% 0px -75% 0px" });
    document.querySelectorAll("main > section").forEach(function (section) { seen.observe(section); });
  }

  // In a frame, as browsers log an error of a script that is not there. A server is asked in a project's layout alone.
  function readBeside() {
    var frame = document.getElementById("beside");
    if (location.protocol !== "file:" && !/\/reports\/(index\.html)?$/.test(location.pathname)) return;
    addEventListener("message", function (event) {
      if (event.source !== frame.contentWindow) return;
      showBeside(event.data.parts);
      showRuns(event.data.runs);
      var target = document.getElementById(location.hash.slice(1)); // what came in above has moved it
      if (target) target.scrollIntoView();
    });
    frame.src = frame.dataset.src;
  }

  function showBeside(parts) {
    document.querySelectorAll("[data-beside]").forEach(function (box) {
      var content = parts && parts[box.dataset.beside];
      if (!content) return;
      box.innerHTML = content;
      var figure = box.closest("figure");
      if (figure) figure.hidden = false;
    });
  }

  function costOf(fact) {
    var words = [];
    if (fact.gpu_seconds) words.push(fact.gpu_seconds.toFixed(0) + " GPU s");
    if (fact.energy_j) words.push((fact.energy_j / 3600).toFixed(1) + " Wh");
    if (fact.cost_per_thousand_images) words.push(fact.cost_per_thousand_images.toFixed(4) + " a thousand images");
    if (fact.prediction_seconds_per_image) words.push((1000 * fact.prediction_seconds_per_image).toFixed(1) + " ms an image");
    return words.join(", ");
  }

  function spell(seconds) { return seconds < 100 ? seconds.toFixed(1) + " s" : (seconds / 60).toFixed(1) + " min"; }

  function showRuns(facts) {
    if (!facts || !facts.length) return;
    var box = document.getElementById("facts"), body = box.querySelector("tbody"), seconds = {}, total = 0;
    facts.forEach(function (fact) {
      var row = body.insertRow();
      [fact.stage + (fact.status === "FINISHED" ? "" : " (" + fact.status.toLowerCase() + ")"), fact.seconds.toFixed(1),
       fact.peak_rss_mb + " MB" + (fact.peak_gpu_mb ? ", GPU " + fact.peak_gpu_mb + " MB" : ""), fact.device, costOf(fact),
       fact.started.slice(0, 16).replace("T", " "), (fact.run_id || "").slice(0, 8)].forEach(function (text) { row.insertCell().textContent = text; });
      var name = fact.stage.split("@")[0];
      seconds[name] = (seconds[name] || 0) + fact.seconds;
      total += fact.seconds;
    });
    document.querySelectorAll("[data-stage]").forEach(function (text) {
      if (seconds[text.dataset.stage]) text.textContent = spell(seconds[text.dataset.stage]);
    });
    document.getElementById("total").textContent = spell(total) + " over all stages, one after the other.";
    box.hidden = false;
  }

  setUpTheme();
  document.querySelectorAll(".sample").forEach(setUpComparison);
  setUpContents();
  readBeside();
})();
