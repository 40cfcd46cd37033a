/** What painters ask of a frame, whichever kind it is: VideoFrame, ImageBitmap, canvas. */

/** [height, width] in pixels, as it is shown. */
export function sizeOf(frame) {
  return [frame.displayHeight ?? frame.height, frame.displayWidth ?? frame.width];
}
