/** Where messages go, for people: no credentials, and no path, which can be a secret too. */
export function describeDestination(url: string): string {
  const { protocol, host } = new URL(url);
  return `${protocol}//${host}`;
}

/** User and password of a URL, as they were meant. */
export function credentialsOf(url: URL): { user: string; pass: string } | undefined {
  if (url.username === '' && url.password === '') return undefined;
  return { user: decodeURIComponent(url.username), pass: decodeURIComponent(url.password) };
}
