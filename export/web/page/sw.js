/**
 * The service worker: the page works offline after its first visit, and has threads wherever it is hosted.
 *
 * Files whose address cannot change its content (a hash, or the engine's version, is in it) come from the cache; all
 * others from the network while there is one, so that a new version of the folder is seen at once. Every answer gets the
 * two headers without which browsers give no shared memory, and so no threads, to a page.
 */

const CACHE = `edgeseg-${new URL(self.location.href).searchParams.get("v")}`;
const ISOLATION = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const WAIT_MS = 4000; // for a network that is there but does not answer

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && new URL(url).origin === self.location.origin) event.respondWith(answer(event.request));
});

async function install() {
  const { offline } = await (await fetch("page.json", { cache: "no-cache" })).json();
  const cache = await caches.open(CACHE);
  await cache.addAll(offline);
  await self.skipWaiting();
}

async function activate() {
  const old = (await caches.keys()).filter((name) => name.startsWith("edgeseg-") && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const fixed = /[?&]sha256=|\/engine-/.test(request.url);
  return isolated(fixed ? await cachedFirst(request) : await networkFirst(request));
}

async function cachedFirst(request) {
  const cache = await caches.open(CACHE);
  const found = await cache.match(request);
  if (found) return found;
  const fresh = await fetch(request);
  if (fresh.ok) await cache.put(request, fresh.clone());
  return fresh;
}

async function networkFirst(request) {
  const cache = await caches.open(CACHE);
  const stored = () => cache.match(request, { ignoreSearch: true });
  try {
    const fresh = await fetch(request, { signal: AbortSignal.timeout(WAIT_MS) });
    return fresh.ok ? fresh : (await stored()) ?? fresh;
  } catch (error) {
    const found = await stored();
    if (!found) throw error;
    return found;
  }
}

function isolated(response) {
  if (!response.body) return response; // a redirect, or "not modified"
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(ISOLATION)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
