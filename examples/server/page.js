let seen = new Date();

async function look() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(2000) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(fresh.querySelector("main"));
    document.title = fresh.title;
    seen = new Date();
    say(false, "as of " + seen.toLocaleTimeString());
  } catch {
    say(true, "No answer: the process has most likely ended. Last seen at " + seen.toLocaleTimeString() + ".");
    document.title = "no answer";
  }
  setTimeout(look, 500);
}

function say(gone, words) {
  document.body.classList.toggle("gone", gone);
  document.getElementById("seen").textContent = words;
}

look();
