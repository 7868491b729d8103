let seen = new Date();

async function look() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(2000) });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    seen = new Date();
    document.title = fresh.title;
    if (getSelection().isCollapsed) {
      document.querySelector("main").replaceWith(fresh.querySelector("main"));
      say(false, "as of " + seen.toLocaleTimeString());
    } else {
      say(false, "stands still while text is selected");
    }
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
