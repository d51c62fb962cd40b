// An IP address and a port, as URLs and the configuration write them: 127.0.0.1:9537, [::1]:9537. Source: RFC 3986, 3.2.2.

export interface HostAndPort {
  readonly host: string;
  readonly port: number;
}

export function formatHostAndPort({ host, port }: HostAndPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
