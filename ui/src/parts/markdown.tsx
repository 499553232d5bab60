/**
 * Markdown as elements. The library only takes the text apart; no HTML is ever made from it. Links are
 * shown with their target and lead nowhere, images are named and not fetched, HTML stays text.
 */

import type { ComponentChildren } from "preact";
import { lexer, type Token, type Tokens } from "marked";

export function render(text: string): ComponentChildren {
  try {
    return blocks(lexer(text, { gfm: true, breaks: true }));
  } catch {
    return text;
  }
}

const blocks = (tokens: Token[]): ComponentChildren => tokens.map((token, at) => <Block key={at} token={token} />);

function Block({ token }: { token: Token }) {
  switch (token.type) {
    case "space":
      return null;
    case "heading": {
      const { depth, tokens } = token as Tokens.Heading;
      // The page has headings of its own; these are only bold lines.
      return <p class={`heading h${depth}`}>{inlines(tokens)}</p>;
    }
    case "paragraph":
      return <p>{inlines((token as Tokens.Paragraph).tokens)}</p>;
    case "code":
      return <pre tabIndex={0}><code>{(token as Tokens.Code).text}</code></pre>;
    case "blockquote":
      return <blockquote>{blocks((token as Tokens.Blockquote).tokens)}</blockquote>;
    case "hr":
      return <hr />;
    case "list": {
      const { ordered, start, items } = token as Tokens.List;
      const body = items.map((item, at) => <li key={at}>{item.task ? (item.checked ? "☑ " : "☐ ") : null}{blocks(item.tokens)}</li>);
      return ordered ? <ol start={Number(start) || 1}>{body}</ol> : <ul>{body}</ul>;
    }
    case "table": {
      const { header, rows } = token as Tokens.Table;
      return (
        <div class="wide" tabIndex={0}><table>
          <thead><tr>{header.map((cell, at) => <th key={at}>{inlines(cell.tokens)}</th>)}</tr></thead>
          <tbody>{rows.map((row, at) => <tr key={at}>{row.map((cell, index) => <td key={index}>{inlines(cell.tokens)}</td>)}</tr>)}</tbody>
        </table></div>
      );
    }
    case "text": {
      const { tokens, text } = token as Tokens.Text;
      return <>{tokens ? inlines(tokens) : text}</>;
    }
    default:
      return <p>{token.raw}</p>;
  }
}

const inlines = (tokens: Token[] | undefined): ComponentChildren => (tokens ?? []).map((token, at) => <Inline key={at} token={token} />);

function Inline({ token }: { token: Token }) {
  switch (token.type) {
    case "strong":
      return <strong>{inlines((token as Tokens.Strong).tokens)}</strong>;
    case "em":
      return <em>{inlines((token as Tokens.Em).tokens)}</em>;
    case "del":
      return <s>{inlines((token as Tokens.Del).tokens)}</s>;
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "br":
      return <br />;
    case "link": {
      const { href, tokens, text } = token as Tokens.Link;
      return <span class="inert-link" title={href}>{inlines(tokens)}{text === href ? null : <> ({href})</>}</span>;
    }
    case "image": {
      const { href, text } = token as Tokens.Image;
      return <span class="inert-link" title="Not fetched">🖼 {text || "image"} ({href})</span>;
    }
    case "escape":
      return <>{(token as Tokens.Escape).text}</>;
    case "text": {
      const { tokens } = token as Tokens.Text;
      return <>{tokens ? inlines(tokens) : token.raw}</>;
    }
    default:
      return <>{token.raw}</>;
  }
}

