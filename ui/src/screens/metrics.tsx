export function Metrics(_: any) { return <main class="page"><h1>Metrics</h1></main>; }
