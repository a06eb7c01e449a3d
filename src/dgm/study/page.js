"use strict";
// The page of a rater: shows the trials that the server gives, one at a time, and sends the answers.
const FIXATION = 500, MASKS = 4, MASK = 30; // milliseconds, and the number of masks after a timed image (HYPE)
const SOONEST = 200; // milliseconds before which no answer is taken: it was meant for the trial before
const RETRY = 1500; // milliseconds
const SIZE = 384; // pixels of an image's longer side

const CHOICES = {
  "real or fake": [["fake", "Generated", "F", "ArrowLeft"], ["real", "Real", "J", "ArrowRight"]],
  pairs: [["left", "Left", "F", "ArrowLeft"], ["right", "Right", "J", "ArrowRight"]],
};
const QUESTIONS = { "real or fake": "Is it real or generated?", pairs: "Which one is better?" };
const NOUNS = { image: "image", sound: "sound", text: "text" };

const at = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const frame = () => new Promise(requestAnimationFrame);

let rater = null; // { token, tab }
let trial = null; // the present one
let explained = null; // the task whose instructions were read
let onset = 0; // when the present example appeared
let shown = null; // milliseconds for which a timed image was seen
let sounds = [];
let turn = 0; // a number of the present page of the study: what an earlier one awaited is dropped

function state(name, words = "") {
  document.body.dataset.state = name;
  at("status").textContent = words;
  for (const button of at("choices").children) button.setAttribute("aria-disabled", String(name !== "asking"));
}

async function post(name, content) {
  for (;;) {
    let response = null;
    try {
      response = await fetch(name, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content),
      });
    } catch {
      at("status").textContent = "The server does not answer. Your answers so far are kept; waiting for it …";
      await sleep(RETRY);
      continue;
    }
    const found = await response.json();
    if (response.ok) return found;
    throw Object.assign(new Error(found.wrong), { status: response.status });
  }
}

function instructions(title, paragraphs, go, act) {
  at("trial").hidden = true;
  at("instructions").hidden = false;
  at("title").textContent = title;
  at("text").replaceChildren(...paragraphs.map((words) => {
    const p = document.createElement("p");
    p.textContent = words;
    return p;
  }));
  at("go").hidden = !go;
  at("go").textContent = go || "";
  at("go").onclick = () => {
    at("go").onclick = null;
    act();
  };
  if (go) at("go").focus();
}

function welcome() {
  at("done").hidden = true;
  state("welcome");
  instructions("Thank you for taking part", [
    "You will be shown real examples and examples that a computer program has generated, and asked for your judgement.",
    "There is a button and a key for each answer. You may pause at any time; your answers are kept.",
  ], "Begin", async () => {
    try {
      open(await post("begin", {}));
    } catch (error) {
      fail(error);
    }
  });
}

async function start() {
  const token = localStorage.getItem("rater");
  if (!token) return welcome();
  try {
    open(await post("resume", { token }));
  } catch (error) {
    if (error.status !== 410) return fail(error);
    localStorage.removeItem("rater"); // of another study
    welcome();
  }
}

function open(found) {
  rater = { token: found.token, tab: found.tab };
  localStorage.setItem("rater", rater.token);
  next(found.trial);
}

function next(found) {
  trial = found;
  turn += 1;
  const done = trial.task === "done";
  at("done").hidden = false;
  at("done").value = done ? 1 : trial.number / trial.of;
  if (done) {
    state("done");
    instructions("Thank you, that was all", [`All ${trial.of} answers are kept. You may close this page.`],
      "Another person takes part", () => {
        localStorage.removeItem("rater");
        explained = null;
        welcome();
      });
  } else if (trial.task !== explained) {
    explain();
  } else {
    present(turn);
  }
}

function explain() {
  const noun = NOUNS[trial.medium];
  const words = trial.task === "pairs"
    ? [`You will be shown two ${noun}s. Choose the better one: the one that looks more like real data to you.`,
      "Press the button, or F or ← for the left one and J or → for the right one."]
    : [`You will be shown one ${noun} at a time. Decide whether it is real or was generated; about half are real.`,
      "Press the button, or F or ← for generated and J or → for real."];
  if (trial.medium === "sound") words[0] = words[0].replace("looks", "sounds").replace("shown", "played");
  if (trial.exposure !== null) {
    words.push("Each image is shown for a moment, after a cross in its place. If you are not sure, guess.");
  }
  state("instructions");
  instructions(QUESTIONS[trial.task], words, "Continue", () => {
    explained = trial.task;
    present(turn);
  });
}

async function present(mine) {
  at("instructions").hidden = true;
  at("trial").hidden = false;
  at("question").textContent = QUESTIONS[trial.task];
  at("again-line").hidden = trial.medium !== "sound";
  for (const sound of sounds) URL.revokeObjectURL(sound.src);
  sounds = [];
  shown = null;
  const frames = trial.tickets.map((_, k) => {
    const element = document.createElement("div");
    element.className = `frame ${trial.medium}`;
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", trial.task === "pairs" ? ["left", "right"][k] : `the ${NOUNS[trial.medium]}`);
    return element;
  });
  at("stage").className = frames.length === 2 ? "two" : "one";
  at("stage").replaceChildren(...frames);
  at("choices").replaceChildren(...CHOICES[trial.task].map(([choice, name, key]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(name, Object.assign(document.createElement("kbd"), { textContent: key }));
    button.onclick = () => answer(choice);
    return button;
  }));
  state("showing");
  try {
    const files = await Promise.all(trial.tickets.map(file));
    if (mine !== turn) return;
    if (trial.medium === "image") await images(frames, files);
    else if (trial.medium === "sound") await play(frames, files, mine);
    else await texts(frames, files);
    if (trial.exposure === null) {
      onset = performance.now();
      await sleep(SOONEST);
    }
    if (mine === turn) state("asking");
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

async function file(ticket) {
  const response = await fetch(`example/${ticket}`);
  if (!response.ok) throw Object.assign(new Error((await response.json()).wrong), { status: response.status });
  return response.blob();
}

async function images(frames, files) {
  const bitmaps = await Promise.all(files.map((one) => createImageBitmap(one)));
  const canvases = bitmaps.map((bitmap) => {
    const canvas = document.createElement("canvas");
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
    const scale = SIZE / Math.max(bitmap.width, bitmap.height);
    canvas.style.width = `${bitmap.width * (scale > 1 ? Math.floor(scale) : scale)}px`;
    if (scale <= 1) canvas.style.imageRendering = "auto";
    return canvas;
  });
  const draw = () => canvases.forEach((canvas, k) => canvas.getContext("2d").drawImage(bitmaps[k], 0, 0));
  if (trial.exposure === null) {
    draw();
    canvases.forEach((canvas, k) => frames[k].replaceChildren(canvas));
    return;
  }
  frames[0].classList.add("cross");
  await sleep(FIXATION);
  frames[0].classList.remove("cross");
  draw();
  const masks = noise(bitmaps[0].width, bitmaps[0].height);
  onset = await frame();
  frames[0].replaceChildren(canvases[0]);
  let now = onset;
  while (now - onset < trial.exposure - 4) now = await frame(); // a frame is shown until the next
  shown = now - onset;
  for (const mask of masks) {
    canvases[0].getContext("2d").putImageData(mask, 0, 0);
    const from = now;
    while (now - from < MASK - 4) now = await frame();
  }
  frames[0].replaceChildren();
}

// Random pixels, which end the after-image; one that stands still where less motion is asked for.
function noise(width, height) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const made = Array.from({ length: still ? 1 : MASKS }, () => {
    const mask = new ImageData(width, height);
    for (let k = 0; k < mask.data.length; k += 4) {
      mask.data.fill(Math.random() * 256, k, k + 3);
      mask.data[k + 3] = 255;
    }
    return mask;
  });
  return still ? Array(MASKS).fill(made[0]) : made;
}

async function texts(frames, files) {
  for (const [k, one] of files.entries()) {
    const pre = document.createElement("pre");
    pre.dir = "auto";
    pre.textContent = (await one.text()).trimEnd();
    frames[k].replaceChildren(pre);
  }
}

async function play(frames, files, mine) {
  sounds = files.map((one) => new Audio(URL.createObjectURL(one)));
  frames.forEach((element, k) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = frames.length === 2 ? `Play the ${["left", "right"][k]} one` : "Play";
    button.onclick = () => again(k);
    element.replaceChildren(button);
  });
  await playAll(mine);
}

async function playAll(mine) {
  for (const sound of sounds) {
    if (mine !== turn) return;
    const ended = new Promise((done) => Object.assign(sound, { onended: done, onerror: done, onpause: done }));
    try {
      await sound.play();
      await ended;
    } catch {
      at("status").textContent = "Press Play to hear it.";
      return;
    }
  }
}

function again(k) {
  for (const sound of sounds) sound.pause();
  sounds[k].currentTime = 0;
  sounds[k].play();
}

async function answer(choice) {
  if (document.body.dataset.state !== "asking") return;
  const seconds = (performance.now() - onset) / 1000;
  const mine = turn;
  for (const sound of sounds) sound.pause();
  state("sending");
  try {
    const found = await post("answer", { ...rater, number: trial.number, choice, seconds, shown });
    if (mine === turn) next(found.trial);
  } catch (error) {
    fail(error);
  }
}

function fail(error) {
  if (error.status === 409) {
    state("elsewhere");
    instructions("This study is open in another tab", ["Go on there, or take over here."], "Go on here", start);
  } else if (error.status === 410) {
    localStorage.removeItem("rater");
    welcome();
  } else {
    state("failed", `Not done: ${error.message}.`);
    instructions("Something went wrong", [error.message], "Try again", start);
  }
}

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !trial || at("trial").hidden) return;
  const key = event.key.length === 1 ? event.key.toUpperCase() : event.key;
  if (key === "P" && sounds.length) return void playAll(turn);
  const found = (CHOICES[trial.task] || []).find((choice) => choice.includes(key, 2));
  if (!found) return;
  event.preventDefault();
  answer(found[0]);
});
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload(); // taken from the memory of the back button
});
start();
