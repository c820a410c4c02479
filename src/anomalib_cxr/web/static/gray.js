// True gray values of an X-ray: a PNG of 16 bits, which a browser's own decoder would cut to 8, and its window.

async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function paeth(left, up, corner) {
  const guess = left + up - corner;
  const [a, b, c] = [Math.abs(guess - left), Math.abs(guess - up), Math.abs(guess - corner)];
  if (a <= b && a <= c) return left;
  return b <= c ? up : corner;
}

function unfilter(bytes, width, height) {
  // PNG specification, 9.2; a pixel has two bytes, the higher one first.
  const stride = 2 * width;
  const values = new Uint16Array(width * height);
  let above = new Uint8Array(stride);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1);
    const kind = bytes[start];
    const row = bytes.subarray(start + 1, start + 1 + stride);
    for (let i = 0; i < stride; i += 1) {
      const left = i < 2 ? 0 : row[i - 2];
      if (kind === 1) row[i] += left;
      else if (kind === 2) row[i] += above[i];
      else if (kind === 3) row[i] += (left + above[i]) >> 1;
      else if (kind === 4) row[i] += paeth(left, above[i], i < 2 ? 0 : above[i - 2]);
    }
    for (let x = 0; x < width; x += 1) values[y * width + x] = row[2 * x] * 256 + row[2 * x + 1];
    above = row;
  }
  return values;
}

export async function decode(buffer) {
  const view = new DataView(buffer);
  const parts = [];
  let [width, height, facts] = [0, 0, null];
  for (let at = 8; at < buffer.byteLength;) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...new Uint8Array(buffer, at + 4, 4));
    const data = new Uint8Array(buffer, at + 8, length);
    if (kind === "IHDR") {
      [width, height] = [view.getUint32(at + 8), view.getUint32(at + 12)];
      if (data[8] !== 16 || data[9] !== 0 || data[12] !== 0) throw new Error("no gray of 16 bits");
    } else if (kind === "tEXt") {
      const [key, text] = new TextDecoder("latin1").decode(data).split("\0");
      if (key === "values") facts = JSON.parse(text);
    } else if (kind === "IDAT") parts.push(data);
    at += length + 12;
  }
  return { width, height, facts, values: unfilter(await inflate(parts), width, height) };
}

export function grayOf(value, window, center, width) {
  // DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3, in [0, 1].
  const real = value * window.slope + window.intercept;
  if (window.function === "SIGMOID") return 1 / (1 + Math.exp(-4 * (real - center) / width));
  const isExact = window.function === "LINEAR_EXACT";
  const [middle, span] = isExact ? [center, width] : [center - 0.5, width - 1];
  if (real <= middle - span / 2) return 0;
  if (real > middle + span / 2) return 1;
  return (real - middle) / span + 0.5;
}

export class TrueGray {
  static async load(canvas, output) {
    const answer = await fetch(canvas.dataset.src);
    if (!answer.ok) throw new Error(answer.status);
    return new TrueGray(canvas, output, await decode(await answer.arrayBuffer()));
  }

  constructor(canvas, output, { width, height, facts, values }) {
    [canvas.width, canvas.height] = [width, height];
    this.output = output;
    this.context = canvas.getContext("2d", { alpha: false });
    this.image = this.context.createImageData(width, height);
    new Uint32Array(this.image.data.buffer).fill(0xffffffff);
    this.window = facts;
    this.values = values;
    this.asked = 0;
  }

  show(level, share, inverted) {
    // Center and width from shares of the window of the file; drawn once for each frame of the screen.
    const least = this.window.function === "LINEAR" ? 1 : Number.EPSILON;
    const width = Math.max(least, this.window.width * share);
    const center = this.window.center + (level - 0.5) * this.window.width;
    const digits = this.window.width < 20 ? 3 : 0;
    this.output.textContent = `C ${center.toFixed(digits)}  W ${width.toFixed(digits)}`;
    cancelAnimationFrame(this.asked);
    this.asked = requestAnimationFrame(() => this.draw(center, width, inverted !== this.window.inverted));
  }

  draw(center, width, inverted) {
    const table = new Uint8Array(65536);
    for (let value = 0; value < 65536; value += 1) {
      const gray = grayOf(value, this.window, center, width);
      table[value] = Math.round(255 * (inverted ? 1 - gray : gray));
    }
    const { data } = this.image;
    for (let i = 0; i < this.values.length; i += 1) {
      data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = table[this.values[i]];
    }
    this.context.putImageData(this.image, 0, 0);
  }
}
