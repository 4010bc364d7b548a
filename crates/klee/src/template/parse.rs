//! Reads templates.

use std::iter::Peekable;
use std::str::CharIndices;

use serde_json::Value;

use super::{Block, Call, Node, Operand, Pipeline, TemplateError};

/// Blocks and parentheses that may stand in each other.
const MAX_DEPTH: usize = 100;

/// Reads a whole template.
pub fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let mut parser = Parser {
        text,
        at: 0,
        trim: false,
        depth: 0,
    };
    let (nodes, stop) = parser.nodes()?;
    match stop {
        Stop::Text => Ok(nodes),
        Stop::End(at) => Err(parser.error(at, "'end' without a block")),
        Stop::Else(at, _) => Err(parser.error(at, "'else' without a block")),
    }
}

/// Where a list of nodes ends.
enum Stop {
    /// At the end of the template.
    Text,
    /// At `{{end}}`.
    End(usize),
    /// At `{{else}}`, perhaps with the rest of the action.
    Else(usize, Option<Action>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Field(Vec<String>),
    Outermost(Vec<String>),
    Word(String),
    Literal(Value),
    Open,
    /// A closing parenthesis, and the fields of what it closes.
    Close(Vec<String>),
    Pipe,
}

/// The tokens between two braces, the first of them last.
struct Action {
    tokens: Vec<(usize, Token)>,
    end: usize,
}

impl Action {
    fn next(&mut self) -> Option<(usize, Token)> {
        self.tokens.pop()
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.last().map(|(_, token)| token)
    }

    /// Where the next token is.
    fn at(&self) -> usize {
        self.tokens.last().map_or(self.end, |(at, _)| *at)
    }

    /// Takes a word away if it is the next token.
    fn takes(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(next)) if next == word);
        if found {
            self.tokens.pop();
        }
        found
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Byte that is read next.
    at: usize,
    /// Whether white space before the next text is left out.
    trim: bool,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, at: usize, message: impl Into<String>) -> TemplateError {
        TemplateError {
            column: self.column(at),
            message: message.into(),
        }
    }

    fn column(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().chars().count() + 1
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), TemplateError> {
        self.deeper()?;
        let mut nodes = Vec::new();
        let stop = loop {
            let rest = self.rest();
            let open = rest.find("{{");
            let text = rest.get(..open.unwrap_or(rest.len())).unwrap_or_default();
            self.at += text.len();
            let mut text = if self.trim { text.trim_start() } else { text };
            let Some(_) = open else {
                push_text(&mut nodes, text);
                break Stop::Text;
            };
            let begin = self.at;
            self.at += 2;
            if self.rest().starts_with("- ") {
                self.at += 1;
                text = text.trim_end();
            }
            push_text(&mut nodes, text);
            if self.skip_comment(begin)? {
                continue;
            }
            let mut action = self.action(begin)?;
            let at = action.at();
            if action.takes("end") {
                self.finished(&action)?;
                break Stop::End(at);
            }
            if action.takes("else") {
                break Stop::Else(at, (!action.tokens.is_empty()).then_some(action));
            }
            nodes.push(self.node(action)?);
        };
        self.depth -= 1;
        Ok((nodes, stop))
    }

    fn deeper(&mut self) -> Result<(), TemplateError> {
        self.depth += 1;
        match self.depth > MAX_DEPTH {
            true => Err(self.error(self.at, "too many blocks within each other")),
            false => Ok(()),
        }
    }

    fn skip_comment(&mut self, begin: usize) -> Result<bool, TemplateError> {
        let rest = self.rest();
        let inner = rest.trim_start();
        if !inner.starts_with("/*") {
            return Ok(false);
        }
        let end = rest.find("*/").map(|end| end + 2);
        let behind = end.and_then(|end| rest.get(end..)).unwrap_or_default();
        let close = ["}}", " -}}"].into_iter().find(|c| behind.starts_with(c));
        let (Some(end), Some(close)) = (end, close) else {
            return Err(self.error(begin, "a comment without '*/}}'"));
        };
        self.at += end + close.len();
        self.trim = close.starts_with(' ');
        Ok(true)
    }

    fn node(&mut self, mut action: Action) -> Result<Node, TemplateError> {
        let at = action.at();
        for (word, kind) in [
            ("if", Block::If),
            ("with", Block::With),
            ("range", Block::Range),
        ] {
            if action.takes(word) {
                let over = self.pipeline(&mut action)?;
                self.finished(&action)?;
                return self.block(at, word, kind, over);
            }
        }
        let pipeline = self.pipeline(&mut action)?;
        self.finished(&action)?;
        Ok(Node::Print(pipeline))
    }

    /// Reads a block behind its beginning.
    fn block(
        &mut self,
        at: usize,
        word: &str,
        kind: Block,
        over: Pipeline,
    ) -> Result<Node, TemplateError> {
        let unended = |parser: &Self| parser.error(at, format!("'{word}' without '{{{{end}}}}'"));
        let (body, stop) = self.nodes()?;
        let otherwise = match stop {
            Stop::End(_) => Vec::new(),
            Stop::Text => return Err(unended(self)),
            Stop::Else(_, None) => match self.nodes()? {
                (otherwise, Stop::End(_)) => otherwise,
                (_, Stop::Text) => return Err(unended(self)),
                (_, Stop::Else(at, _)) => return Err(self.error(at, "a second 'else'")),
            },
            Stop::Else(_, Some(action)) => {
                if !matches!(action.peek(), Some(Token::Word(word)) if word == "if") {
                    return Err(self.error(action.at(), "'else' can be followed by 'if' only"));
                }
                // The end of the inner block is that of the outer one, too.
                self.deeper()?;
                let inner = self.node(action)?;
                self.depth -= 1;
                vec![inner]
            }
        };
        Ok(Node::Block {
            kind,
            over,
            body,
            otherwise,
        })
    }

    fn finished(&self, action: &Action) -> Result<(), TemplateError> {
        match action.peek() {
            None => Ok(()),
            Some(Token::Close(_)) => Err(self.error(action.at(), "')' without '('")),
            Some(_) => Err(self.error(action.at(), "nothing more can stand here")),
        }
    }

    fn pipeline(&mut self, action: &mut Action) -> Result<Pipeline, TemplateError> {
        self.deeper()?;
        let mut calls = vec![self.call(action)?];
        while action.peek() == Some(&Token::Pipe) {
            action.next();
            calls.push(self.call(action)?);
        }
        self.depth -= 1;
        Ok(Pipeline(calls))
    }

    fn call(&mut self, action: &mut Action) -> Result<Call, TemplateError> {
        let at = action.at();
        let mut call = Call {
            column: self.column(at),
            function: None,
            operands: Vec::new(),
        };
        if let Some(Token::Word(word)) = action.peek() {
            call.function = Some(word.clone());
            action.next();
        }
        while !matches!(action.peek(), None | Some(Token::Pipe | Token::Close(_))) {
            let operand = self.operand(action)?;
            call.operands.push(operand);
        }
        match (&call.function, call.operands.len()) {
            (None, 0) => Err(self.error(at, "expected a value")),
            (None, 2..) => Err(self.error(at, "only a function takes arguments")),
            _ => Ok(call),
        }
    }

    fn operand(&mut self, action: &mut Action) -> Result<Operand, TemplateError> {
        let Some((at, token)) = action.next() else {
            return Err(self.error(action.end, "expected a value"));
        };
        let field = |outermost, path| Operand::Field {
            column: self.column(at),
            outermost,
            path,
        };
        match token {
            Token::Field(path) => Ok(field(false, path)),
            Token::Outermost(path) => Ok(field(true, path)),
            Token::Literal(value) => Ok(Operand::Literal(value)),
            Token::Open => {
                let inner = Operand::Nested(self.pipeline(action)?);
                let Some((_, Token::Close(path))) = action.next() else {
                    return Err(self.error(action.end, "expected ')'"));
                };
                if path.is_empty() {
                    return Ok(inner);
                }
                let names = path.into_iter().map(Value::String);
                let names = names.map(Operand::Literal);
                Ok(Operand::Nested(Pipeline(vec![Call {
                    column: self.column(at),
                    function: Some("index".to_owned()),
                    operands: std::iter::once(inner).chain(names).collect(),
                }])))
            }
            Token::Word(word) => Err(self.error(
                at,
                format!("'{word}' is no value: put a call into parentheses"),
            )),
            Token::Pipe | Token::Close(_) => Err(self.error(at, "expected a value")),
        }
    }

    /// Reads the tokens up to the closing braces.
    fn action(&mut self, begin: usize) -> Result<Action, TemplateError> {
        let base = self.at;
        let mut tokens = Vec::new();
        let rest = self.rest();
        let mut characters = rest.char_indices().peekable();
        loop {
            let Some(&(offset, character)) = characters.peek() else {
                return Err(self.error(begin, "'{{' without '}}'"));
            };
            let behind = rest.get(offset..).unwrap_or_default();
            let trims = behind.starts_with("-}}");
            if trims || behind.starts_with("}}") {
                let end = base + offset;
                self.at = end + if trims { 3 } else { 2 };
                self.trim = trims;
                if tokens.is_empty() {
                    return Err(self.error(end, "nothing between '{{' and '}}'"));
                }
                tokens.reverse();
                return Ok(Action { tokens, end });
            }
            if character.is_whitespace() {
                characters.next();
                continue;
            }
            let token = token(&mut characters, behind)
                .map_err(|message| self.error(base + offset, message))?;
            tokens.push((base + offset, token));
        }
    }
}

/// Text outside of braces, with its escapes.
fn push_text(nodes: &mut Vec<Node>, text: &str) {
    if text.is_empty() {
        return;
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = match (character, characters.peek()) {
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('\\')) => '\\',
            _ => {
                plain.push(character);
                continue;
            }
        };
        characters.next();
        plain.push(escaped);
    }
    nodes.push(Node::Text(plain));
}

type Characters<'a> = Peekable<CharIndices<'a>>;

/// Reads one token; `behind` is the text from there on.
fn token(characters: &mut Characters<'_>, behind: &str) -> Result<Token, String> {
    let first = characters.peek().map_or(' ', |(_, character)| *character);
    match first {
        '.' => Ok(Token::Field(path(characters))),
        '$' => {
            characters.next();
            match characters.peek() {
                Some((_, '.')) => Ok(Token::Outermost(path(characters))),
                Some((_, c)) if is_word(*c) => {
                    Err("variables can't be used, but for '$'".to_owned())
                }
                _ => Ok(Token::Outermost(Vec::new())),
            }
        }
        '(' => {
            characters.next();
            Ok(Token::Open)
        }
        ')' => {
            characters.next();
            Ok(Token::Close(path(characters)))
        }
        '|' => {
            characters.next();
            Ok(Token::Pipe)
        }
        '"' => quoted(characters),
        '`' => {
            characters.next();
            let text = take_while(characters, |c| c != '`');
            match characters.next() {
                Some(_) => Ok(Token::Literal(Value::String(text))),
                None => Err("the text has no end".to_owned()),
            }
        }
        '-' | '0'..='9' => {
            characters.next();
            let more = take_while(characters, |c| c.is_ascii_digit() || c == '.');
            let text = format!("{first}{more}");
            serde_json::from_str(&text)
                .map(Token::Literal)
                .map_err(|_| format!("'{text}' is no number"))
        }
        _ if is_word(first) => {
            let word = take_while(characters, is_word);
            Ok(match word.as_str() {
                "true" => Token::Literal(Value::Bool(true)),
                "false" => Token::Literal(Value::Bool(false)),
                "nil" => Token::Literal(Value::Null),
                _ => Token::Word(word),
            })
        }
        _ if behind.starts_with(":=") => Err("variables can't be used, but for '$'".to_owned()),
        other => Err(format!("unexpected '{other}'")),
    }
}

/// Fields, each after its dot.
fn path(characters: &mut Characters<'_>) -> Vec<String> {
    let mut names = Vec::new();
    while characters.next_if(|(_, c)| *c == '.').is_some() {
        let name = take_while(characters, is_word);
        if !name.is_empty() {
            names.push(name);
        }
    }
    names
}

fn quoted(characters: &mut Characters<'_>) -> Result<Token, String> {
    characters.next();
    let mut text = String::new();
    loop {
        match characters.next() {
            Some((_, '"')) => return Ok(Token::Literal(Value::String(text))),
            Some((_, '\\')) => match characters.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, other)) => text.push(other),
                None => return Err("the text has no end".to_owned()),
            },
            Some((_, other)) => text.push(other),
            None => return Err("the text has no end".to_owned()),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn take_while(characters: &mut Characters<'_>, wanted: impl Fn(char) -> bool) -> String {
    let mut text = String::new();
    while let Some((_, character)) = characters.next_if(|(_, c)| wanted(*c)) {
        text.push(character);
    }
    text
}
