//! Finding heads in bytes that arrive in any pieces. A head that is complete at once is read in one pass; one that
//! drips in is checked line by line and costs a bounded multiple of its length, never its square.

use crate::{
    Fields, Limits, RequestError, RequestHead, ResponseError, ResponseHead, ascii,
    error::FieldLineError,
    section::{self, Progress},
};

/// Reads one head after another from a growing buffer.
///
/// It remembers how far it looked: until it reports a head or an error, the next call must pass the same bytes again
/// with more after them. It is ready for the next head afterwards, and with [`HeadReader::default`].
#[derive(Clone, Debug, Default)]
pub struct HeadReader {
    /// All bytes before this place belong to complete, valid lines. 0: the first line is not complete.
    line: usize,
    /// How many of the bytes have been looked at.
    scanned: usize,
    /// Up to where the incomplete line was really parsed, not only scanned.
    parsed: usize,
    /// Fields on the complete lines.
    fields: usize,
}

/// What differs between the kinds of section a reader can find.
pub(crate) trait Section {
    type Line<'a>;
    type Error: From<FieldLineError>;

    /// Parses what comes before the fields and says where they begin.
    fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Option<(Self::Line<'a>, usize)>, Self::Error>;

    fn fill(&mut self, line: Self::Line<'_>);

    fn fields(&mut self) -> &mut Fields;

    /// The length from which on an incomplete first line is an error.
    fn longest_line(limits: &Limits) -> usize;
}

/// While a line is shorter than this it is parsed anew for every byte: garbage is refused at once.
const SHORT_LINE: usize = 128;

impl HeadReader {
    /// Reads a request's head: the bytes it took, or `None` while more are needed. `head` holds something sensible
    /// only after `Some`.
    pub fn request(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        head: &mut RequestHead,
    ) -> Result<Option<usize>, RequestError> {
        self.read(bytes, limits, head)
    }

    /// Reads a response's head, as [`HeadReader::request`] does.
    pub fn response(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        head: &mut ResponseHead,
    ) -> Result<Option<usize>, ResponseError> {
        self.read(bytes, limits, head)
    }

    pub(crate) fn read<S: Section>(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        into: &mut S,
    ) -> Result<Option<usize>, S::Error> {
        let within = bytes.get(..limits.head_bytes).unwrap_or(bytes);
        let found = if self.scanned == 0 || within.len() < self.scanned {
            self.first_look(within, limits, into)
        } else {
            self.look_again(within, limits, into)
        };
        match found {
            Ok(None) if bytes.len() >= limits.head_bytes => {
                *self = Self::default();
                Err(FieldLineError::TooLarge.into())
            }
            Ok(None) => Ok(None),
            done => {
                *self = Self::default();
                done
            }
        }
    }

    fn first_look<S: Section>(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        into: &mut S,
    ) -> Result<Option<usize>, S::Error> {
        let Some((line, at)) = S::parse(bytes, limits)? else {
            self.remember(0, 0, bytes);
            return Ok(None);
        };
        let section = bytes.get(at..).unwrap_or_default();
        let fields = into.fields().store_mut();
        fields.clear();
        match section::read(section, 0, limits, Some(fields))? {
            Progress::End(end) => {
                // Without the empty line, so that lines added later follow those that are there.
                let lines = section.get(..end.saturating_sub(2)).unwrap_or(section);
                fields.take_text(lines).map_err(|_| FieldLineError::TooLarge)?;
                into.fill(line);
                Ok(Some(at + end))
            }
            Progress::Partial { line, fields: seen } => {
                fields.clear();
                self.remember(at + line, seen, bytes);
                Ok(None)
            }
        }
    }

    fn look_again<S: Section>(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
        into: &mut S,
    ) -> Result<Option<usize>, S::Error> {
        if !self.is_worth_parsing::<S>(bytes, limits) {
            self.scanned = bytes.len();
            return Ok(None);
        }
        let start = if self.line > 0 { Some(self.line) } else { S::parse(bytes, limits)?.map(|(_, at)| at) };
        let Some(at) = start else {
            self.remember(0, 0, bytes);
            return Ok(None);
        };
        match section::read(bytes.get(at..).unwrap_or_default(), self.fields, limits, None)? {
            Progress::End(_) => self.first_look(bytes, limits, into),
            Progress::Partial { line, fields } => {
                self.remember(at + line, fields, bytes);
                Ok(None)
            }
        }
    }

    /// Whether the bytes that are new can change anything: they end a line, or offend, or the line has doubled.
    fn is_worth_parsing<S: Section>(&self, bytes: &[u8], limits: &Limits) -> bool {
        let length = bytes.len().saturating_sub(self.line);
        length <= SHORT_LINE
            || length >= 2 * self.parsed.saturating_sub(self.line)
            || bytes.len() >= limits.head_bytes
            || self.line == 0 && bytes.len() > S::longest_line(limits)
            // The last byte looked at may have been a CR that was waiting for its LF.
            || bytes.get(self.scanned.saturating_sub(1)..).is_none_or(|new| ascii::find_control(new).is_some())
    }

    fn remember(&mut self, line: usize, fields: usize, bytes: &[u8]) {
        *self = Self { line, scanned: bytes.len(), parsed: bytes.len(), fields };
    }
}

/// A trailer section is a head without a first line.
impl Section for Fields {
    type Line<'a> = ();
    type Error = FieldLineError;

    fn parse(_: &[u8], _: &Limits) -> Result<Option<((), usize)>, FieldLineError> {
        Ok(Some(((), 0)))
    }

    fn fill(&mut self, (): ()) {}

    fn fields(&mut self) -> &mut Fields {
        self
    }

    fn longest_line(_: &Limits) -> usize {
        usize::MAX
    }
}
