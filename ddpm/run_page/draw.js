// The box that draws: a picture of the server on this machine, asked for when its form is sent and not before.
const box = document.getElementById("draw");
const [picture, keep, note] = ["drawn", "keep", "note"].map((id) => document.getElementById(id));

box.addEventListener("submit", (event) => {
  event.preventDefault();
  const address = `${box.dataset.server}/v1/images/${box.elements.seed.value}.png`;
  note.textContent = "drawing …";
  keep.hidden = picture.hidden = true;
  picture.onload = () => {
    note.textContent = "";
    keep.href = `${address}?download=true`;
    picture.alt = `the picture of number ${box.elements.seed.value}`;
    keep.hidden = picture.hidden = false;
  };
  picture.onerror = () => { note.textContent = `no picture came from ${box.dataset.server}: is its server started?`; };
  picture.src = address;
});
