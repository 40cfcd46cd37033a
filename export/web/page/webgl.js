/**
 * The painter on WebGL2: the frame is uploaded once; resizing for the engine, the exact mask and the overlay are made
 * from that texture. Only the engine's input and the mask come back, four bytes in each texel. See painter.js.
 */

import { sizeOf } from "./frame.js";
import { axis, layoutOf } from "./mask.js";
import { taps } from "./resize.js";

const FOLD = 2048; // every device's textures are that wide

const HEAD = `#version 300 es
precision highp float; precision highp int; precision highp sampler2D;
uniform ivec2 source, target;
ivec2 at() { return ivec2(gl_FragCoord.xy); }
`;

/** Bytes 4·x … 4·x+3 of a row of BGR pixels, with the integers of resize.js. */
const RESIZE = `${HEAD}
uniform sampler2D frame, down, across;
out vec4 result;
int value(int x, int y, int channel) { return int(texelFetch(frame, ivec2(x, y), 0)[channel] * 255.0 + 0.5); }
float resized(int pixel, int row, int channel) {
  ivec4 y = ivec4(texelFetch(down, ivec2(row, 0), 0)), x = ivec4(texelFetch(across, ivec2(pixel, 0), 0));
  int upper = value(x.r, y.r, channel) * x.b + value(x.g, y.r, channel) * x.a;
  int lower = value(x.r, y.g, channel) * x.b + value(x.g, y.g, channel) * x.a;
  return float((((upper >> 4) * y.b >> 16) + ((lower >> 4) * y.a >> 16) + 2) >> 2) / 255.0;
}
void main() {
  vec4 bytes = vec4(0);
  for (int k = 0; k < 4; k++) {
    int byte = 4 * at().x + k;
    if (byte < 3 * target.x) bytes[k] = resized(byte / 3, at().y, 2 - byte % 3);
  }
  result = bytes;
}`;

const LOGITS = `${HEAD}
uniform sampler2D logits;
uniform int classes, cell, stride;
float logit(int place, int k) {
  int i = place * cell + k * stride;
  return texelFetch(logits, ivec2(i % ${FOLD}, i / ${FOLD}), 0).r;
}
`;

/** The best class of every sample, as a share of 255. */
const BEST = `${LOGITS}
out vec4 result;
void main() {
  int place = at().y * source.x + at().x, best = 0;
  float top = logit(place, 0);
  for (int k = 1; k < classes; k++) {
    float value = logit(place, k);
    if (value > top) { top = value; best = k; }
  }
  result = vec4(float(best) / 255.0);
}`;

/** The classes of four neighbouring pixels; logits are interpolated only where the four corners disagree. */
const MASK = `${LOGITS}
uniform sampler2D best, rows, columns;
out vec4 result;
float winner(int x, int y) {
  vec4 row = texelFetch(rows, ivec2(y, 0), 0), column = texelFetch(columns, ivec2(min(x, target.x - 1), 0), 0);
  int above = int(row.x), below = int(row.y), left = int(column.x), right = int(column.y);
  float a = texelFetch(best, ivec2(left, above), 0).r, b = texelFetch(best, ivec2(right, above), 0).r;
  float c = texelFetch(best, ivec2(left, below), 0).r, d = texelFetch(best, ivec2(right, below), 0).r;
  if (a == b && a == c && a == d) return a;
  ivec4 places = ivec4(above, above, below, below) * source.x + ivec4(left, right, left, right);
  float top = 0.0;
  int found = 0;
  for (int k = 0; k < classes; k++) {
    float p = logit(places.x, k), q = logit(places.y, k);
    float upper = (logit(places.z, k) - p) * row.z + p, lower = (logit(places.w, k) - q) * row.z + q;
    float value = (lower - upper) * column.z + upper;
    if (k == 0 || value > top) { top = value; found = k; }
  }
  return float(found) / 255.0;
}
void main() {
  int x = 4 * at().x, y = at().y;
  result = vec4(winner(x, y), winner(x + 1, y), winner(x + 2, y), winner(x + 3, y));
}`;

/** The frame with its classes' colours over it, upright on the canvas. */
const DRAW = `${HEAD}
uniform sampler2D frame, mask, palette;
uniform bool masked;
out vec4 result;
void main() {
  ivec2 pixel = ivec2(at().x, target.y - 1 - at().y);
  result = vec4(texelFetch(frame, pixel, 0).rgb, 1);
  if (!masked) return;
  int k = int(texelFetch(mask, ivec2(pixel.x / 4, pixel.y), 0)[pixel.x % 4] * 255.0 + 0.5);
  vec4 tint = texelFetch(palette, ivec2(k, 0), 0);
  result.rgb = mix(result.rgb, tint.rgb, tint.a);
}`;

export class WebGlPainter {
  name = "webgl2";
  height = 0;
  width = 0;

  constructor(gl, artifact) {
    this.gl = gl;
    this.artifact = artifact;
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    this.programs = Object.fromEntries(Object.entries({ resize: RESIZE, best: BEST, mask: MASK, draw: DRAW })
      .map(([name, code]) => [name, compiled(gl, code)]));
    this.textures = {};
    this.framebuffer = gl.createFramebuffer();
  }

  take(frame) {
    const { gl } = this;
    const [height, width] = sizeOf(frame);
    if (height !== this.height || width !== this.width) {
      Object.assign(this, { height, width });
      Object.assign(gl.canvas, { height, width });
      this.logitsSize = null;
      const [h, w] = this.artifact.preprocess.size;
      this.#table("down", taps(height, h, { isRow: true }));
      this.#table("across", taps(width, w, { isRow: false }));
    }
    this.#texture("frame");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, frame);
    this.masked = false;
  }

  input() {
    const [height, width] = this.artifact.preprocess.size;
    return this.#render("resize", "input", Math.ceil(3 * width / 4), height,
      { target: [width, height], frame: "frame", down: "down", across: "across" }, 3 * width);
  }

  mask({ data, dims }) {
    const { classes, height, width, cell, step } = layoutOf(dims, this.artifact.output.layout);
    if (this.logitsSize?.height !== height || this.logitsSize?.width !== width) this.#place(height, width);
    const sizes = { source: [width, height], target: [this.width, this.height], classes, cell, stride: step };
    this.#upload("logits", FOLD, Math.ceil(data.length / FOLD), "R32F", "RED", data);
    this.#render("best", "best", width, height, { ...sizes, logits: "logits" });
    this.masked = true;
    return this.#render("mask", "mask", Math.ceil(this.width / 4), this.height,
      { ...sizes, logits: "logits", best: "best", rows: "rows", columns: "columns" }, this.width);
  }

  draw({ opacity = 0.6, hidden = new Set() } = {}) {
    const { gl } = this;
    const tints = new Uint8Array(4 * 256);
    this.artifact.palette.forEach((colour, k) => tints.set([...colour, hidden.has(k) ? 0 : 255 * opacity], 4 * k));
    this.#texture("palette");
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, tints);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    this.#run("draw", this.width, this.height, { target: [this.width, this.height], masked: Number(this.masked),
      frame: "frame", palette: "palette", mask: this.masked ? "mask" : "frame" });
  }

  pixels() {
    this.gl.bindFramebuffer(this.gl.FRAMEBUFFER, this.framebuffer);
    this.#attach("frame");
    return this.#read(this.width, this.height, 4 * this.width);
  }

  close() {
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }

  /** Where the frame's rows and columns lie among the logits. */
  #place(height, width) {
    this.logitsSize = { height, width };
    this.#table("rows", axis(height, this.height, this.artifact.align_corners));
    this.#table("columns", axis(width, this.width, this.artifact.align_corners));
  }

  /** Columns of equal length, up to four, as one row of texels. */
  #table(name, values) {
    const columns = Object.values(values), length = columns[0].length;
    const table = new Float32Array(4 * length);
    columns.forEach((column, k) => column.forEach((value, i) => { table[4 * i + k] = value; }));
    this.#upload(name, length, 1, "RGBA32F", "RGBA", table);
  }

  /** Select a texture, making it when it is new; nothing is filtered, every texel is fetched by its place. */
  #texture(name) {
    const { gl } = this;
    const isNew = !this.textures[name];
    this.textures[name] ??= gl.createTexture();
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.textures[name]);
    if (!isNew) return;
    for (const key of ["MIN_FILTER", "MAG_FILTER"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${key}`], gl.NEAREST);
    for (const key of ["WRAP_S", "WRAP_T"]) gl.texParameteri(gl.TEXTURE_2D, gl[`TEXTURE_${key}`], gl.CLAMP_TO_EDGE);
  }

  #upload(name, width, height, kind, format, data) {
    const { gl } = this;
    const whole = width * height * (format === "RGBA" ? 4 : 1);
    const padded = data.length === whole ? data : new Float32Array(whole);
    if (padded !== data) padded.set(data);
    this.#texture(name);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl[kind], width, height, 0, gl[format], gl.FLOAT, padded);
  }

  /** Run a program into a texture; with `rowBytes` its bytes are returned, each row cut to that length. */
  #render(program, into, width, height, values, rowBytes) {
    const { gl } = this;
    const texture = this.textures[into];
    this.#texture(into);
    if (!texture || texture.size !== `${width}x${height}`) {
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, width, height, 0, gl.RGBA, gl.UNSIGNED_BYTE, null);
      this.textures[into].size = `${width}x${height}`;
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    this.#attach(into);
    this.#run(program, width, height, values);
    return rowBytes ? this.#read(width, height, rowBytes) : null;
  }

  #attach(name) {
    const { gl } = this;
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, this.textures[name], 0);
  }

  /** Draw one triangle that covers the target. Strings among the values name textures. */
  #run(name, width, height, values) {
    const { gl } = this;
    const { program, places } = this.programs[name];
    gl.useProgram(program);
    let unit = 0;
    for (const [key, value] of Object.entries(values)) {
      if (Array.isArray(value)) gl.uniform2i(places[key], ...value);
      else if (typeof value === "number") gl.uniform1i(places[key], value);
      else {
        gl.activeTexture(gl.TEXTURE0 + unit);
        gl.bindTexture(gl.TEXTURE_2D, this.textures[value]);
        gl.uniform1i(places[key], unit++);
      }
    }
    gl.viewport(0, 0, width, height);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
  }

  #read(width, height, rowBytes) {
    const { gl } = this;
    const bytes = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    if (rowBytes === 4 * width) return bytes;
    const cut = new Uint8Array(rowBytes * height);
    for (let y = 0; y < height; y++) cut.set(bytes.subarray(4 * width * y, 4 * width * y + rowBytes), rowBytes * y);
    return cut;
  }
}

const TRIANGLE = `#version 300 es
void main() { gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1); }`;

/** A program and the places of its uniforms. */
function compiled(gl, code) {
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, TRIANGLE], [gl.FRAGMENT_SHADER, code]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    const logs = gl.getAttachedShaders(program).map((shader) => gl.getShaderInfoLog(shader)).join(" ");
    throw new Error(`a shader does not compile: ${logs} ${gl.getProgramInfoLog(program)}`);
  }
  const count = gl.getProgramParameter(program, gl.ACTIVE_UNIFORMS);
  const names = Array.from({ length: count }, (_, i) => gl.getActiveUniform(program, i).name);
  return { program, places: Object.fromEntries(names.map((name) => [name, gl.getUniformLocation(program, name)])) };
}
