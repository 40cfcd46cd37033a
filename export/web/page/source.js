/** Where frames come from: a camera, a video of the user's, or a picture. */

import { PageError } from "./session.js";

const LONGEST = 2048; // pixels of a picture's longer side: a phone's photograph has more than any screen

const REFUSED = {
  NotAllowedError: ["the camera was refused", "allow it in the browser's address bar; pictures and videos work without"],
  NotFoundError: ["no camera was found", "a picture or a video"],
  NotReadableError: ["the camera is in use elsewhere", "close the other application"],
};

/** Plays a camera or a file into a <video> element and calls `arrived` for each new frame of it. */
export class Player {
  #video;
  #address = "";

  constructor(video, arrived) {
    this.#video = video;
    const soon = (call) => video.requestVideoFrameCallback?.(call) ?? requestAnimationFrame(call);
    const each = () => {
      soon(each);
      if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) arrived();
    };
    soon(each);
  }

  /** @param facing "environment" (back) or "user" (front). @throws PageError: refused, none there, in use. */
  async camera(facing) {
    this.stop();
    if (!navigator.mediaDevices) throw new PageError("browsers give cameras to secure pages only", "https, or localhost");
    const video = { facingMode: facing, width: { ideal: 1280 }, height: { ideal: 720 } };
    try {
      this.#video.srcObject = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    } catch (error) {
      throw new PageError(...(REFUSED[error.name] ?? [`the camera cannot be opened (${error.message})`]));
    }
    await this.#video.play();
  }

  /** @param file a video of the user's; it plays in a loop. @throws PageError: this browser cannot play it. */
  async file(file) {
    this.stop();
    this.#address = URL.createObjectURL(file);
    this.#video.src = this.#address;
    this.#video.loop = true;
    try {
      await this.#video.play();
    } catch (error) {
      throw new PageError(`${file.name} cannot be played here (${error.message})`, "an mp4 with H.264");
    }
  }

  /** The frame that is shown now, to be closed by whoever gets it; no copy where the browser can do without. */
  grab() {
    return self.VideoFrame ? new VideoFrame(this.#video) : createImageBitmap(this.#video);
  }

  pause(paused) {
    if (paused) this.#video.pause();
    else this.#video.play();
  }

  stop() {
    this.#video.srcObject?.getTracks().forEach((track) => track.stop());
    this.#video.srcObject = null;
    this.#video.removeAttribute("src");
    URL.revokeObjectURL(this.#address);
  }
}

/** A picture of the user's, at most 2048 pixels long. @throws PageError: it is none that this browser reads. */
export async function stillFrom(file) {
  const whole = await createImageBitmap(file).catch(() => null);
  if (!whole) throw new PageError(`${file.name} is no picture that this browser reads`, "a JPEG or PNG");
  const scale = LONGEST / Math.max(whole.width, whole.height);
  if (scale >= 1) return whole;
  return createImageBitmap(whole, { resizeWidth: Math.round(whole.width * scale),
    resizeHeight: Math.round(whole.height * scale), resizeQuality: "high" });
}
